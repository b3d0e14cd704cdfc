// Call a server from web pages in headless Chromium: `node browser.mjs JSON` with `chromium`, `page`, `other`, `url`, `token`.
// Prints as JSON what a page of ours saw, what an unnamed page saw, and the tools that the Inspector lists.
import { chromium } from "playwright-core";

const { chromium: executablePath, page: origin, other, url, token } = JSON.parse(process.argv[2]);
const args = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
const browser = await chromium.launch({ executablePath, headless: true, args });

async function callBothEras({ url, token }) {
  const shared = {
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
    Authorization: `Bearer ${token}`,
  };
  const post = (message, headers) =>
    fetch(url, { method: "POST", headers: { ...shared, ...headers }, body: JSON.stringify({ jsonrpc: "2.0", id: 1, ...message }) });
  const info = { name: "page", version: "1" };
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: info };
  const opened = await post({ method: "initialize", params });
  const session = { "Mcp-Session-Id": opened.headers.get("mcp-session-id"), "MCP-Protocol-Version": "2025-11-25" };
  const call = { name: "route", arguments: { region: "north" } };
  const legacy = await (await post({ method: "tools/call", params: call }, session)).json();
  const stream = await fetch(url, { headers: { ...shared, Accept: "text/event-stream", "Last-Event-ID": "0", ...session } });
  await stream.body.cancel();
  const modern = await post(
    {
      method: "tools/call",
      params: {
        ...call,
        _meta: {
          "io.modelcontextprotocol/protocolVersion": "2026-07-28",
          "io.modelcontextprotocol/clientCapabilities": {},
          "io.modelcontextprotocol/clientInfo": info,
        },
      },
    },
    { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "route", "Mcp-Param-Region": "north" },
  );
  const refused = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  return {
    session: session["Mcp-Session-Id"] !== null,
    legacy: legacy.result.content[0].text,
    stream: stream.status,
    modern: (await modern.json()).result.content[0].text,
    refused: [refused.status, refused.headers.get("www-authenticate")],
  };
}

async function called(origin) {
  const page = await browser.newPage();
  await page.goto(`${origin}/mcp.svg`);
  try {
    return await page.evaluate(callBothEras, { url, token });
  } catch (error) {
    return String(error).includes("Failed to fetch") ? "Failed to fetch" : String(error);
  } finally {
    await page.close();
  }
}

async function inspected() {
  const page = await browser.newPage();
  await page.addInitScript(
    ([url, token]) => {
      localStorage.setItem("lastConnectionType", "direct");
      localStorage.setItem("lastTransportType", "streamable-http");
      localStorage.setItem("lastSseUrl", url);
      localStorage.setItem(
        "lastCustomHeaders",
        JSON.stringify([{ name: "Authorization", value: `Bearer ${token}`, enabled: true }]),
      );
    },
    [url, token],
  );
  await page.goto(`${origin}/`);
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await page.getByRole("tab", { name: "Tools" }).click();
  await page.getByRole("button", { name: "List Tools" }).click();
  await page.getByText("Repeat arguments as headers.").or(page.getByText("Ask one question, then three at once")).first().waitFor();
  return true;
}

console.log(JSON.stringify({ page: await called(origin), other: await called(other), inspector: await inspected() }));
await browser.close();
