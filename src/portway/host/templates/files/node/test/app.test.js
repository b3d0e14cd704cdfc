import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createApp } from "../app.js";

const TOKEN = "a-token-for-tests";
let listener, url;

before(async () => {
  listener = createApp(TOKEN, ["mcp.example.com"]).listen(0, "127.0.0.1");
  await new Promise((resolve) => listener.once("listening", resolve));
  url = `http://127.0.0.1:${listener.address().port}`;
});

after(() => {
  listener.close();
  listener.closeAllConnections();
});

async function connected(use) {
  const client = new Client({ name: "tests", version: "1.0.0" });
  const headers = { Authorization: `Bearer ${TOKEN}` };
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers } }));
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

test("the tool returns structured weather", async () => {
  const result = await connected((client) => client.callTool({ name: "get_weather", arguments: { city: "Oslo" } }));
  assert.deepEqual(result.structuredContent, { city: "Oslo", temperature_c: 25, conditions: "cloudy" });
});

test("a city without a name is refused", async () => {
  const result = await connected((client) => client.callTool({ name: "get_weather", arguments: { city: "" } }));
  assert.equal(result.isError, true);
});

test("the resource and the prompt name the city", async () => {
  const [resource, prompt] = await connected(async (client) => [
    await client.readResource({ uri: "weather://forecast/Oslo" }),
    await client.getPrompt({ name: "packing_list", arguments: { city: "Oslo" } }),
  ]);
  assert.match(resource.contents[0].text, /Oslo/);
  assert.match(prompt.messages[0].content.text, /Oslo/);
});

// fetch() sets Host itself, so the other requests are made by node:http.
function get(path, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(`${url}${path}`, { headers }, (response) => {
      response.resume();
      resolve({ status: response.statusCode, challenge: response.headers["www-authenticate"] ?? "" });
    });
    sent.on("error", reject).end();
  });
}

test("the endpoint asks for the token", async () => {
  for (const authorization of [undefined, "Bearer wrong", "Basic wrong", "Bearer t\u00f6rn"]) {
    const answer = await get("/mcp", authorization ? { Authorization: authorization } : {});
    assert.equal(answer.status, 401);
    assert.match(answer.challenge, /^Bearer/);
  }
});

test("only the names of this server are answered", async () => {
  assert.equal((await get("/health", { Host: "mcp.example.com" })).status, 200);
  assert.equal((await get("/health", { Host: "elsewhere.example" })).status, 403);
});

test("health needs no token", async () => {
  assert.equal((await get("/health")).status, 200);
});
