-- Lets go of what is not needed any more, a bounded amount of it. ARGV: instance, retain ms, retain bytes.
-- Says whether there may be more to do.
if not meta.fields.epoch or meta.fields.run ~= run then return '0' end
local retain_ms, retain_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local MOST = 2000
local more = purge_keys() == 200
call('ZADD', P .. 'sessions', 'XX', int(now_ms), ARGV[1])
for _, old in ipairs(call('ZRANGEBYSCORE', P .. 'sessions', '-inf', int(now_ms - 3600000), 'LIMIT', 0, 20)) do
  call('DEL', P .. 's:' .. old)
  call('ZREM', P .. 'sessions', old)
end
for _, slot in ipairs(ended()) do
  if get(slot, 'pending') > 0 then
    local _, rest = discard(slot, tonumber(slot.fields['until']), MOST)
    more = more or rest
  end
end
-- Past what every node has.
local done, done_bytes, next = get(meta, 'done'), get(meta, 'done_bytes'), get(meta, 'next')
local looked = 0
while done < next and looked < MOST do
  local e = entry(done)
  if e and e.needed > 0 then break end
  done_bytes = done_bytes + (e and e.size or 0)
  done = done + 1
  looked = looked + 1
end
more = more or looked == MOST
-- And what of that is old, or too much.
local first, removed = get(meta, 'first'), 0
while first < done and removed < MOST do
  local e = entry(first)
  if e and done_bytes <= retain_bytes and e.at_ms + retain_ms >= now_ms then break end
  if e then
    if has(e.flags, SPOOLED) then
      local found = call('XRANGE', P .. 'updates', int(first) .. '-0', int(first) .. '-0')[1]
      local body = found and pairs_of(found[2]).b
      if body and not call('HGET', P .. 'bodies', body) then call('UNLINK', P .. 'b:' .. body) end
    end
    done_bytes = done_bytes - e.size
    add(meta, 'total_bytes', -e.size)
  end
  first = first + 1
  removed = removed + 1
  if first % CHUNK == 0 then
    local chunk = int(first / CHUNK - 1)
    call('DEL', P .. 'e:' .. chunk, P .. 'x:' .. chunk)
    for _, slot in ipairs(live()) do call('DEL', P .. 'c:' .. slot.number .. ':' .. chunk) end
    for _, slot in ipairs(ended()) do call('DEL', P .. 'c:' .. slot.number .. ':' .. chunk) end
  end
end
if removed > 0 then
  call('XTRIM', P .. 'updates', 'MINID', int(first) .. '-0')
  put(meta, 'first', first)
end
if done ~= get(meta, 'done') then put(meta, 'done', done) end
if done_bytes ~= get(meta, 'done_bytes') then put(meta, 'done_bytes', done_bytes) end
store_all()
-- Slots that nothing held refers to.
for _, slot in ipairs(ended()) do
  if tonumber(slot.fields['until']) <= first and get(slot, 'pending') <= 0 then
    for chunk = floor(get(slot, 'since') / CHUNK), floor(first / CHUNK) do
      call('DEL', P .. 'c:' .. slot.number .. ':' .. int(chunk))
    end
    call('DEL', slot.key)
    call('SREM', P .. 'ended', slot.number)
  end
end
return (more or removed == MOST) and '1' or '0'
