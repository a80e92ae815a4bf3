-- One instance's changes, in order, all or none, and once: a batch that was executed is answered from memory.
-- ARGV: instance, epoch, number of the batch, max pending bytes, max keys, remember ms; then the operations, each an id, its kind,
-- and its arguments.
local instance, epoch, number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local max_pending, max_keys = tonumber(ARGV[4]), tonumber(ARGV[5])
local session_key = P .. 's:' .. instance

local function refuse(why, detail)
  return { why, detail or '', {}, {} }
end
if not meta.fields.epoch or meta.fields.run ~= run or meta.fields.epoch ~= epoch then return refuse('epoch') end
local session = call('HMGET', session_key, 'n', 'result')
if not session[1] then return refuse('session') end
local done = tonumber(session[1])
local function names()
  return call('HKEYS', P .. 'names')
end
if number == done then return { 'ok', int(get(meta, 'next')), names(), cmsgpack.unpack(session[2]) } end
if number ~= done + 1 then return refuse('session', session[1]) end
if get(meta, 'gather_until') > now_ms then return refuse('gathering') end
if ARGV[6] ~= meta.fields.remember_ms then put(meta, 'remember_ms', ARGV[6]) end

local at = 6
local function arg()
  at = at + 1
  return ARGV[at]
end
local function num()
  return tonumber(arg())
end

-- A slot that this asker may write for; or why not.
local function held()
  local slot, token = slot_of(arg()), num()
  if not slot.fields.name or slot.fields['until'] then return nil, 'gone' end
  if get(slot, 'token') ~= token then return nil, 'stale' end
  return slot
end

local answer_stored
-- Keeps an answer for whoever asks later, if it is the first or better than the one kept.
local function keep_answer(seq, last, answer)
  answer_stored = '0'
  if answer == '' then return end
  local scope = call('HGET', P .. 'scopes', int(seq))
  local key = scope and scope_key(scope) or P .. 'w:' .. int(seq)
  local known_last = call('HGET', key, 'last')
  if known_last == '1' or (known_last and not last) then return end
  call('HSET', key, 'answer', answer, 'last', last and '1' or '0')
  if not scope then call('PEXPIRE', key, 60000) end
  answer_stored = '1'
end

local function note(seq, slot, text)
  if text ~= '' then
    call('HSET', P .. 'x:' .. int(floor(seq / CHUNK)), int(seq) .. ':' .. slot.number, text)
  end
end

local ops = {}

function ops.append()
  local flags, received, size, scope, digest, body, record = num(), num(), num(), arg(), arg(), arg(), arg()
  if has(flags, KEYED) then
    local expires = call('ZSCORE', P .. 'keys', scope)
    if expires and tonumber(expires) < now_ms then
      forget_key(scope)
    elseif expires then
      local known = call('HMGET', scope_key(scope), 'seq', 'digest', 'last')
      local e = entry(tonumber(known[1]))
      local open = e and e.needed > 0
      if known[2] ~= digest then return 'reused', known[1] end
      return 'known', known[1], open and '1' or '0', known[3] or ''
    end
  end
  local nodes = live()
  if #nodes == 0 then return 'no-nodes' end
  local pending = get(meta, 'pending_bytes')
  if pending + size > max_pending then return 'full', int(pending), int(max_pending) end
  if has(flags, KEYED) and call('ZCARD', P .. 'keys') >= max_keys then
    if purge_keys() == 0 then return 'keys' end
  end
  local seq = get(meta, 'next')
  local id = int(seq)
  if has(flags, SPOOLED) then
    if call('PERSIST', P .. 'b:' .. body) == 0 then return 'no-body' end
    call('XADD', P .. 'updates', id .. '-0', 'r', record, 'o', instance, 'b', body)
  else
    call('XADD', P .. 'updates', id .. '-0', 'r', record, 'o', instance)
  end
  set_entry(seq, { size = size, needed = #nodes, flags = flags, received = received, at_ms = now_ms })
  for _, slot in ipairs(nodes) do
    add(slot, 'pending', 1)
    add(slot, 'bytes', size)
    if has(flags, DELETE) then add(slot, 'deletes', 1) end
  end
  add(meta, 'pending_bytes', size)
  add(meta, 'total_bytes', size)
  if has(flags, KEYED) then
    call('HSET', scope_key(scope), 'seq', id, 'digest', digest, 'at', int(now_ms))
    call('ZADD', P .. 'keys', '+inf', scope)
    call('HSET', P .. 'scopes', id, scope)
  end
  put(meta, 'next', seq + 1)
  tell('a')
  return 'new', id
end

function ops.settle()
  local slot, why = held()
  local seq, attempt, status, digest, last, answer = num(), num(), num(), arg(), arg() == '1', arg()
  if not slot then return why end
  if not is_for(slot, seq) or not entry(seq) then return 'gone' end
  local c = cell(slot, seq)
  local open = is_open(c.state)
  -- Discarded or rejected while it was being sent: that the node got it is the better news.
  if not open and c.state ~= DISCARDED and c.state ~= REJECTED then return 'ok' end
  local late = c.state == REJECTED
  c.attempts = max(c.attempts + (open and bumps(slot, seq) or 0), attempt)
  c.state, c.status, c.digest = DELIVERED, status, digest
  if attempt == 1 then c.first = status end
  keep_answer(seq, last, answer)
  settle(slot, seq, c, open)
  call('HDEL', P .. 'x:' .. int(floor(seq / CHUNK)), int(seq) .. ':' .. slot.number)
  tell('s', int(seq), slot.fields.name, int(attempt), int(status), last and '1' or '0', answer_stored,
    int(struct.unpack('>I4', digest)), int(struct.unpack('>I4', string.sub(digest, 5))))
  return late and 'rejected-before' or 'ok'
end

function ops.fail()
  local slot, why = held()
  local seq, attempt, failures, status, text = num(), num(), num(), num(), arg()
  if not slot then return why end
  if not is_for(slot, seq) or not entry(seq) then return 'ok' end
  local c = cell(slot, seq)
  if not is_open(c.state) then return 'ok' end
  c.state, c.failures, c.status = PENDING, failures, status
  c.attempts = max(c.attempts, attempt - bumps(slot, seq))
  if attempt == 1 then c.first = status end
  set_cell(slot, seq, c)
  note(seq, slot, text)
  tell('f', int(seq), slot.fields.name, int(attempt), int(status))
  return 'ok'
end

-- A retry is about to be sent, or was not sent after all.
function ops.try()
  local slot, why = held()
  local seq, trying = num(), arg() == '1'
  if not slot then return why end
  local c = cell(slot, seq)
  if not is_for(slot, seq) or not entry(seq) or not is_open(c.state) then return 'no' end
  c.state = trying and TRYING or PENDING
  set_cell(slot, seq, c)
  return 'ok'
end

function ops.dead()
  local slot, why = held()
  local seq, attempts, status, text = num(), num(), num(), arg()
  if not slot then return why end
  local c = cell(slot, seq)
  if not is_for(slot, seq) or not entry(seq) or not is_open(c.state) then return 'ok' end
  local field = slot.number .. ':' .. int(seq)
  local found = call('XRANGE', P .. 'updates', int(seq) .. '-0', int(seq) .. '-0')[1]
  if found then
    local fields = pairs_of(found[2])
    call('SET', P .. 'd:' .. field, fields.r)
    if fields.b then call('HINCRBY', P .. 'bodies', fields.b, 1) end
    call('HSET', P .. 'dead', field,
      cmsgpack.pack({ slot.fields.name, int(attempts), int(status), text, int(now_ms), fields.b or '' }))
  end
  c.state, c.attempts, c.status = DEAD, max(attempts, c.attempts + bumps(slot, seq)), status
  settle(slot, seq, c, true)
  note(seq, slot, text)
  tell('d', int(seq), slot.fields.name, int(attempts))
  return 'ok'
end

function ops.bury()
  local field = arg()
  local letter = call('HGET', P .. 'dead', field)
  if not letter then return 'no' end
  call('HDEL', P .. 'dead', field)
  call('DEL', P .. 'd:' .. field)
  local body = cmsgpack.unpack(letter)[6]
  if body ~= '' and call('HINCRBY', P .. 'bodies', body, -1) <= 0 then
    call('HDEL', P .. 'bodies', body)
    -- The log itself may still hold the update.
    local seq = string.match(field, ':(%d+)$')
    if #call('XRANGE', P .. 'updates', seq .. '-0', seq .. '-0') == 0 then call('UNLINK', P .. 'b:' .. body) end
  end
  tell('n')
  return 'ok'
end

function ops.reject()
  local holder, why = held()
  local seq, status, answer = num(), num(), arg()
  if not holder then return why end
  if not entry(seq) then return 'no' end
  local open, counts = {}, {}
  for _, slot in ipairs(live()) do
    if is_for(slot, seq) then
      local c = cell(slot, seq)
      if c.state == DELIVERED or c.state == TRYING then return 'no' end
      if c.state == PENDING then open[#open + 1] = { slot, c } end
    end
  end
  for _, slot in ipairs(ended()) do
    if is_for(slot, seq) and cell(slot, seq).state == DELIVERED then return 'no' end
  end
  if #open == 0 then return 'no' end
  keep_answer(seq, true, answer)
  for _, each in ipairs(open) do
    local slot, c = each[1], each[2]
    c.state, c.status, c.attempts = REJECTED, status, c.attempts + bumps(slot, seq)
    settle(slot, seq, c, true)
    tell('r', int(seq), slot.fields.name, int(c.attempts), int(status))
  end
  return 'ok'
end

function ops.subscribe()
  local name = arg()
  if call('HEXISTS', P .. 'names', name) == 1 then return 'ok' end
  local number = int(get(meta, 'next_slot'))
  add(meta, 'next_slot', 1)
  local slot, next = slot_of(number), get(meta, 'next')
  put(slot, 'name', name)
  for _, field in ipairs({ 'pending', 'deletes', 'bytes', 'token' }) do put(slot, field, 0) end
  put(slot, 'since', next)
  put(slot, 'low', next)
  call('HSET', P .. 'names', name, number)
  resubscribed()
  tell('n')
  return 'ok'
end

function ops.unsubscribe()
  local name, drop = arg(), arg() == '1'
  local number = call('HGET', P .. 'names', name)
  if not number then return 'ok', '0' end
  local slot = slot_of(number)
  local pending = get(slot, 'pending')
  if pending > 0 and not drop then return 'pending', int(pending) end
  put(slot, 'until', get(meta, 'next'))
  call('HDEL', P .. 'names', name)
  resubscribed()
  call('SADD', P .. 'ended', number)
  -- The rest is settled by whoever tends the log: nobody asks for it any more.
  discard(slot, get(meta, 'next'), 2000)
  tell('o', '0', name)
  return 'ok', int(pending)
end

function ops.rename()
  local old, new = arg(), arg()
  local number = call('HGET', P .. 'names', old)
  if not number or call('HEXISTS', P .. 'names', new) == 1 then return 'gone' end
  local slot = slot_of(number)
  call('HDEL', P .. 'names', old)
  call('HSET', P .. 'names', new, number)
  resubscribed()
  put(slot, 'name', new)
  -- One attempt may be under way to the old name; its outcome will not be heard of. Nor does who sent it go on.
  bump(slot)
  -- The lease of the new name counts its tokens anew.
  put(slot, 'holder', '')
  put(slot, 'token', 0)
  tell('n')
  tell('o', '0', old)
  return 'ok'
end

function ops.discard()
  local name, before = arg(), num()
  local number = call('HGET', P .. 'names', name)
  if not number then return 'gone' end
  local slot = slot_of(number)
  if before == 0 then before = get(meta, 'next') end
  local count, more = discard(slot, before, 2000)
  tell('o', int(before), name)
  return 'ok', int(count), more and int(before) or '0'
end

-- Deliveries to a node are this instance's from now on, under the token of its lease.
function ops.claim()
  local name, token = arg(), num()
  local number = call('HGET', P .. 'names', name)
  if not number then return 'gone' end
  local slot = slot_of(number)
  if token < get(slot, 'token') then return 'stale' end
  -- Somebody delivered and did not end in order: whatever is open may have been tried once more.
  if (slot.fields.holder or '') ~= '' then bump(slot) end
  put(slot, 'token', token)
  put(slot, 'holder', instance)
  return 'ok', number
end

function ops.release()
  local slot, why = held()
  if not slot then return why end
  if slot.fields.holder == instance then put(slot, 'holder', '') end
  return 'ok'
end

function ops.share()
  local expected, text = arg(), arg()
  local version = int(get(meta, 'shared'))
  if version ~= expected then return 'other', version end
  call('SET', P .. 'shared', text)
  add(meta, 'shared', 1)
  tell('v')
  return 'ok', int(get(meta, 'shared'))
end

local results = {}
while at < #ARGV do
  local id, kind = arg(), arg()
  results[#results + 1] = { id, ops[kind]() }
end
store_all()
call('HSET', session_key, 'n', int(number), 'result', cmsgpack.pack(results))
publish(instance)
return { 'ok', int(get(meta, 'next')), names(), results }
