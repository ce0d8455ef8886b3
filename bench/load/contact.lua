-- wrk posts contacts, each with a body of its own. All are equally long, so that the head is made once.
-- With the argument `invalid`, the addresses are none, and all are refused with 422.
local LENGTH = 200
local threads = 0

function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  n = 0
  at = args[1] == "invalid" and "." or "@"
  head = "POST /api/contact HTTP/1.1\r\nHost: " .. wrk.headers["Host"] ..
    "\r\nContent-Type: application/json\r\nContent-Length: " .. LENGTH .. "\r\n\r\n"
  filling = string.rep("x", LENGTH)
end

function request()
  n = n + 1
  local start = string.format(
    '{"name":"Visitor %02d-%09d","email":"v%09d%sexample.org","subject":"Hello","message":"Message %09d. ', id, n, n, at, n)
  return head .. start .. string.sub(filling, 1, LENGTH - #start - 2) .. '"}'
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    'result {"seconds": %f, "requests": %d, "failed": %d, "refused": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.duration / 1e6, summary.requests, failed, summary.errors.status,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
