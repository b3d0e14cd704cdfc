// The official TypeScript client logs in by a browser and calls: node login.mjs JSON, with `url`, and `document` or `client_id`.
// A line with a tool's name is a call, and is answered by a line of JSON (tests/clients/logins/lines.py).
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

const given = JSON.parse(process.argv[2]);
const kept = given.client_id ? { client: { client_id: given.client_id, issuer: given.issuer } } : {};
let arrived;
const server = createServer((request, response) => {
  arrived?.(new URL(request.url, "http://localhost").searchParams);
  response.end("You may close this window.");
});
await new Promise((resolve) => server.listen(0, "localhost", resolve));
const redirectUrl = `http://localhost:${server.address().port}/callback`;
let answer;

const authProvider = {
  redirectUrl,
  clientMetadataUrl: given.document,
  clientMetadata: {
    client_name: "A test",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization(url) {
    answer = new Promise((resolve) => (arrived = resolve));
    const [program, ...options] = process.env.BROWSER.split(" ").map((each) => each.replace("%s", url));
    execFile(program, options);
  },
  saveDiscoveryState: (state) => (kept.discovered = state),
  discoveryState: () => kept.discovered,
  invalidateCredentials(what) {
    if (what === "all" || what === "tokens") delete kept.tokens;
    if (what === "all" || what === "client") delete kept.client;
  },
};

const newTransport = () => new StreamableHTTPClientTransport(new URL(given.url), { authProvider });
const newClient = () => new Client({ name: "login", version: "1" }, { versionNegotiation: { mode: "auto" } });
let transport = newTransport();
let client = newClient();

/** Do something; if a login is needed for it, log in and do it once more. */
async function withLogin(action) {
  try {
    return await action();
  } catch (error) {
    if (!UnauthorizedError.isInstance(error)) throw error;
    await transport.finishAuth(await answer);
    return await action(true);
  }
}

async function connect(anew) {
  if (anew) [transport, client] = [newTransport(), newClient()];
  await client.connect(transport);
}

await withLogin(connect);
for await (const tool of createInterface({ input: process.stdin })) {
  try {
    const result = await withLogin(() => client.callTool({ name: tool, arguments: {} }));
    console.log(JSON.stringify({ text: result.content[0].text }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await client.close();
server.close();
