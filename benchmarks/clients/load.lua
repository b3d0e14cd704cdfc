-- One distinct tools/call (or tools/list) per request; every answer is checked and counted. Arguments: ERA METHOD [TOKEN]
local threads = {}
local era, method
local next_id, pending = 0, {}
bad, first_bad = 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  era, method = args[1], args[2]
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "application/json, text/event-stream"
  if args[3] then wrk.headers["Authorization"] = "Bearer " .. args[3] end
  if era == "modern" then
    wrk.headers["MCP-Protocol-Version"] = "2026-07-28"
    wrk.headers["Mcp-Method"] = method
    if method == "tools/call" then wrk.headers["Mcp-Name"] = "get_weather" end
  else
    wrk.headers["MCP-Protocol-Version"] = "2025-11-25"
  end
end

function request()
  next_id = next_id + 1
  pending[next_id] = true
  local params = {}
  if method == "tools/call" then
    table.insert(params, '"name":"get_weather","arguments":{"city":"c' .. next_id .. '"}')
  end
  if era == "modern" then
    table.insert(params, '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}')
  end
  return wrk.format(nil, nil, nil, '{"jsonrpc":"2.0","id":' .. next_id .. ',"method":"' .. method
    .. '","params":{' .. table.concat(params, ",") .. '}}')
end

function response(status, headers, body)
  local id = tonumber(body:match('"id":%s*(%d+)'))
  local right = status == 200 and id and pending[id] and not body:find('"isError":%s*true') and not body:find('"error":', 1, true)
  if right and method == "tools/call" then right = body:find('city\\?":%s*\\?"c' .. id .. '\\?"') end -- escaped where only the text has it
  if right and method == "tools/list" then right = body:find('"name":%s*"tool_') or body:find('"name":%s*"get_weather"') end
  if right then
    pending[id] = nil
  else
    bad = bad + 1
    if first_bad == "" then first_bad = status .. " " .. body:sub(1, 300) end
  end
end

function done(summary, latency, requests)
  local wrong, example = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("bad")
    example = thread:get("first_bad")
  end
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  print(string.format('{"calls":%d,"seconds":%.6f,"bytes":%d,"p50":%.4f,"p99":%.4f,"wrong":%d,"failed":%d,"example":"%s"}',
    summary.requests, summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    wrong, failed, (example:gsub('[%c"\\]', "'"))))
end
