local observed, floor, fresh = ARGV[6], tonumber(ARGV[7]), ARGV[8] == '1'
if (rec and rec.run ~= run) or (not rec and not fresh) then
  -- A lease may be out that this store does not know of: nobody's until one expiry from now.
  local lasts = rec and rec.expiry_ms or expiry_ms
  rec = { token = math.max(rec and rec.token or 0, floor), owner = '', address = '', expiry_ms = lasts,
    end_us = now + lasts * 1000, written_us = now, released = false, run = run }
  save(rec)
end
if rec then
  local over = rec.released or now >= rec.end_us or observed == seen(rec)
  if not over then
    return reply(rec.expiry_ms ~= expiry_ms and 'other-expiry' or 'busy')
  end
end
if legacy then
  return reply('busy-foreign')
end
local token = math.max(rec and rec.token or 0, floor) + 1
hold(math.max(token, math.floor(now / 1000)))
return reply('acquired')
