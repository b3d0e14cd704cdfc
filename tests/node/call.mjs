// An official TypeScript client calls one tool, and prints the protocol version and the text of the result.
// node call.mjs '{"mode": "auto" | "legacy", "url": …, "token": …, "tool": …, "arguments": {…}}'
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const { mode, url, token, tool, arguments: given } = JSON.parse(process.argv[2]);
const requestInit = { headers: { Authorization: `Bearer ${token}` } };
const client = new Client({ name: "call", version: "1" }, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit }));
const result = await client.callTool({ name: tool, arguments: given });
console.log(JSON.stringify([client.getNegotiatedProtocolVersion(), result.content[0].text]));
await client.close();
