// An official TypeScript client manages a host, and prints what it saw as one JSON line.
// node management.mjs '{"client": "v1" | "v2", "mode"?: "legacy" | "2026-07-28", "url", "token"}'
const { client: major, mode = "legacy", url, token } = JSON.parse(process.argv[2]);

const v1 = "@modelcontextprotocol/sdk/client";
const v2 = "@modelcontextprotocol/client";
const { Client } = await import(major === "v1" ? `${v1}/index.js` : v2);
const { StreamableHTTPClientTransport } = await import(major === "v1" ? `${v1}/streamableHttp.js` : v2);

const transport = new StreamableHTTPClientTransport(new URL(url), {
  requestInit: { headers: { Authorization: `Bearer ${token}` } },
});
const versionNegotiation = { mode: mode === "legacy" ? mode : { pin: mode } };
const client = new Client({ name: "manager", version: "1" }, major === "v1" ? {} : { versionNegotiation });

await client.connect(transport);
const steps = [];
const onprogress = (progress) => steps.push(progress.message);
const call = (name, args, options) => client.callTool({ name, arguments: args }, ...(major === "v1" ? [undefined, options] : [options]));
const seen = {
  version: major === "v1" ? transport.protocolVersion : client.getNegotiatedProtocolVersion(),
  instructions: client.getInstructions(),
  reads: (await client.listTools()).tools.filter((tool) => tool.annotations.readOnlyHint).map((tool) => tool.name).sort(),
  who: (await call("whoami", {})).structuredContent,
  restarted: (await call("restart", { app: "weather" }, { onprogress })).structuredContent,
  steps,
  plan: (await call("destroy", { app: "weather" })).structuredContent,
  refused: (await call("deploy", { source: "/etc" })).content[0].text,
};
await client.close();
console.log(JSON.stringify(seen));
