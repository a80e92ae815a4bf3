-- An instance has come, for the first time or again: is this the log that it knows, and has anything been lost?
-- ARGV: instance, the log's identity and epoch as it knows them ('' and 0 at first), its last acknowledged batch, the next sequence
-- that it knows of, a fresh identity, how long to gather in ms.
local instance, known_id, known_epoch = ARGV[1], ARGV[2], tonumber(ARGV[3])
local acknowledged, known_next = tonumber(ARGV[4]), tonumber(ARGV[5])
local gather_ms = tonumber(ARGV[7])
local FORMAT = '1'

if not meta.fields.epoch then
  if known_id ~= '' then return { 'vanished', '', '0', '0', '0', '0', '0' } end
  put(meta, 'format', FORMAT)
  put(meta, 'id', ARGV[6])
  put(meta, 'run', run)
  for _, field in ipairs({ 'epoch', 'next', 'first', 'done' }) do put(meta, field, 1) end
  for _, field in ipairs({ 'next_slot', 'pending_bytes', 'total_bytes', 'done_bytes', 'shared', 'lost' }) do put(meta, field, 0) end
end
if meta.fields.format ~= FORMAT then return { 'format', meta.fields.format, '0', '0', '0', '0', '0' } end
if known_id ~= '' and known_id ~= meta.fields.id then return { 'another', meta.fields.id, '0', '0', '0', '0', '0' } end

if meta.fields.run ~= run then
  -- Restarted, or another server that took over: it may lack the end of the log. Who has seen more says so before anything
  -- is appended, so that no sequence is given twice.
  put(meta, 'run', run)
  put(meta, 'epoch', max(get(meta, 'epoch'), known_epoch) + 1)
  call('HSET', P .. 'epochs', int(get(meta, 'epoch')), int(get(meta, 'next')))
  call('HDEL', P .. 'epochs', int(get(meta, 'epoch') - 100))
  call('DEL', P .. 'gather')
  local newest = call('ZREVRANGE', P .. 'sessions', 0, 0, 'WITHSCORES')[2]
  if newest then
    local others = call('ZRANGEBYSCORE', P .. 'sessions', int(tonumber(newest) - 10000), '+inf')
    for _, other in ipairs(others) do
      if other ~= instance then call('SADD', P .. 'gather', other) end
    end
  end
  put(meta, 'gather_until', call('SCARD', P .. 'gather') > 0 and now_ms + gather_ms or 0)
  -- Attempts of which the record was lost with the end of the log.
  for _, slot in ipairs(live()) do
    if (slot.fields.holder or '') ~= '' then bump(slot) end
  end
  tell('e')
end

call('SREM', P .. 'gather', instance)
if get(meta, 'gather_until') > now_ms and call('SCARD', P .. 'gather') == 0 then put(meta, 'gather_until', 0) end

-- Sequences that this instance has seen and that the log has not.
local next = get(meta, 'next')
local lost_from = known_next
if known_epoch > 0 then
  for epoch, base in pairs(pairs_of(call('HGETALL', P .. 'epochs'))) do
    if tonumber(epoch) > known_epoch then lost_from = min(lost_from, tonumber(base)) end
  end
  lost_from = min(lost_from, next)
end
if known_next > next then
  local missing = min(known_next - next, 1000000)
  for seq = next, next + missing - 1 do
    set_entry(seq, { size = 0, needed = 0, flags = 0, received = now_ms, at_ms = now_ms })
  end
  put(meta, 'next', known_next)
  for _, slot in ipairs(live()) do
    for seq = next, next + missing - 1 do
      set_cell(slot, seq, { state = DISCARDED, attempts = 0, failures = 0, first = 0, status = 0, digest = NO_DIGEST })
    end
    advance(slot, next)
  end
  add(meta, 'lost', missing)
  tell('a')
end

local session_key = P .. 's:' .. instance
local session = tonumber(call('HGET', session_key, 'n') or '-1')
local lost_batches = 0
if session < acknowledged then
  -- One that is not there at all was cleared away, if the server is still the same.
  local same_run = known_epoch == get(meta, 'epoch')
  if known_id ~= '' and (session >= 0 or not same_run) then lost_batches = acknowledged - max(session, 0) end
  session = acknowledged
  call('HSET', session_key, 'n', int(session), 'result', cmsgpack.pack({}))
end
call('ZADD', P .. 'sessions', int(now_ms), instance)
store_all()
publish(instance)
return { 'ok', meta.fields.id, int(get(meta, 'epoch')), int(get(meta, 'next')), int(lost_from), int(session), int(lost_batches) }
