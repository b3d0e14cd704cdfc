// An MCP server with one tool, one resource and one prompt, for callers with the token MCP_API_TOKEN.
// The weather is simulated: replace it by what your server is for.

import { createHash, timingSafeEqual } from "node:crypto";
import { hostHeaderValidation, originValidation, requireBearerAuth } from "@modelcontextprotocol/express";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, McpServer, OAuthError, OAuthErrorCode, ResourceTemplate } from "@modelcontextprotocol/server";
import express from "express";
import { z } from "zod";

const CONDITIONS = ["sunny", "cloudy", "rainy", "windy"];
const city = z.string().min(1).max(100).describe("A city, as in Oslo");

function observe(name) {
  const seed = [...name.toLowerCase()].reduce((sum, letter) => sum + letter.codePointAt(0), 0);
  return { city: name, temperature_c: seed % 35, conditions: CONDITIONS[seed % CONDITIONS.length] };
}

// Each request gets a server of its own: any instance answers any request.
function createServer() {
  const server = new McpServer(
    { name: "weather-mcp", version: "1.0.0" },
    { instructions: "Simulated weather, for trying things out." },
  );
  server.registerTool(
    "get_weather",
    {
      description: "Get the current weather of a city.",
      inputSchema: z.object({ city }),
      outputSchema: z.object({ city: z.string(), temperature_c: z.number(), conditions: z.string() }),
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async ({ city }) => {
      const weather = observe(city);
      return { structuredContent: weather, content: [{ type: "text", text: JSON.stringify(weather) }] };
    },
  );
  server.registerResource(
    "forecast",
    new ResourceTemplate("weather://forecast/{city}", { list: undefined }),
    { description: "The forecast of a city for tomorrow.", mimeType: "text/plain" },
    async (uri, { city }) => ({
      contents: [{ uri: uri.href, text: `Tomorrow in ${city}: ${observe(`${city} tomorrow`).conditions}` }],
    }),
  );
  server.registerPrompt(
    "packing_list",
    { description: "What to pack for a trip.", argsSchema: z.object({ city }) },
    ({ city }) => ({
      messages: [
        {
          role: "user",
          content: {
            type: "text",
            text: `Look up the weather of ${city} and write a packing list for three days.`,
          },
        },
      ],
    }),
  );
  return server;
}

// Lets in who sends `token` as bearer token; others get 401. Digests have one length, which timingSafeEqual needs.
function oneToken(token) {
  const digest = (text) => createHash("sha256").update(text).digest();
  return {
    async verifyAccessToken(given) {
      if (!timingSafeEqual(digest(given), digest(token))) {
        throw new OAuthError(OAuthErrorCode.InvalidToken, "The token is not the one of this server");
      }
      return { token: given, clientId: "token", scopes: [], expiresAt: Date.now() / 1000 + 60 };
    },
  };
}

// `hosts` are the names under which clients reach the server, besides localhost.
export function createApp(token, hosts = []) {
  const names = ["localhost", "127.0.0.1", "[::1]", ...hosts];
  const app = express();
  app.disable("x-powered-by");
  app.use(hostHeaderValidation(names), originValidation(names));
  app.get("/health", (request, response) => {
    response.json({ status: "ok" });
  });
  const handle = toNodeHandler(createMcpHandler(createServer));
  app.all("/mcp", requireBearerAuth({ verifier: oneToken(token) }), (request, response) => handle(request, response));
  return app;
}
