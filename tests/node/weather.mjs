// An official TypeScript client meets the weather server: connects, uses all that it offers, prints what it saw as one JSON line.
// node weather.mjs '{"client": "v1" | "v2", "mode"?: "auto" | "legacy" | "2026-07-28", "url"?, "token"?, "command"?: [...]}'
const { client: major, mode = "auto", url, token, command } = JSON.parse(process.argv[2]);

const v1 = "@modelcontextprotocol/sdk/client";
const v2 = "@modelcontextprotocol/client";
const { Client } = await import(major === "v1" ? `${v1}/index.js` : v2);
const { StreamableHTTPClientTransport } = await import(major === "v1" ? `${v1}/streamableHttp.js` : v2);
const { StdioClientTransport } = await import(major === "v1" ? `${v1}/stdio.js` : `${v2}/stdio`);

const transport = command
  ? new StdioClientTransport({ command: command[0], args: command.slice(1), stderr: "inherit" })
  : new StreamableHTTPClientTransport(new URL(url), {
      requestInit: token ? { headers: { Authorization: `Bearer ${token}` } } : {},
    });
const versionNegotiation = { mode: mode === "auto" || mode === "legacy" ? mode : { pin: mode } };
const client = new Client({ name: "weather-test", version: "1" }, major === "v1" ? {} : { versionNegotiation });

await client.connect(transport);
const tools = (await client.listTools()).tools;
const wrong = await client.callTool({ name: "get_weather", arguments: { town: "Paris" } });
const seen = {
  version: major === "v1" ? transport.protocolVersion : client.getNegotiatedProtocolVersion(),
  server: client.getServerVersion(),
  tools: Object.fromEntries(tools.map((tool) => [tool.name, tool])),
  weather: await client.callTool({ name: "get_weather", arguments: { city: "Paris" } }),
  wrong: { isError: wrong.isError, text: wrong.content[0].text },
  resources: (await client.listResources()).resources.map((resource) => resource.uri),
  templates: (await client.listResourceTemplates()).resourceTemplates.map((template) => template.uriTemplate),
  settings: (await client.readResource({ uri: "config://app-settings" })).contents,
  forecast: (await client.readResource({ uri: "weather://forecast/Paris" })).contents,
  prompts: (await client.listPrompts()).prompts.map((prompt) => prompt.name),
  packing: (await client.getPrompt({ name: "packing_list", arguments: { city: "Paris" } })).messages,
};
await client.close();
console.log(JSON.stringify(seen));
