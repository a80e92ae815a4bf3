-- What all scripts of the log stand on. KEYS[1] is the log's `meta`; every other key begins as it does, so that all are in
-- one slot of a cluster. docs/design/update-log-redis.md says what each key holds.
local P = string.sub(KEYS[1], 1, -5)
local CHUNK = 1024
local PENDING, DELIVERED, DEAD, DISCARDED, REJECTED, TRYING = 0, 1, 2, 3, 4, 16
local floor, max, min = math.floor, math.max, math.min
local call = redis.call

local clock = call('TIME')
local now_ms = clock[1] * 1000 + floor(clock[2] / 1000)
-- Read here and not once at each dial: what stands behind an address can change under a connection.
local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')

-- Whole numbers up to 2^53; tostring would round them.
local function int(number)
  return string.format('%.0f', number)
end

local function pairs_of(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

-- Hashes of numbers, read once and written back once.
local function load(key)
  return { key = key, fields = pairs_of(call('HGETALL', key)), dirty = {} }
end
local function get(hash, field)
  return tonumber(hash.fields[field]) or 0
end
local function put(hash, field, value)
  hash.fields[field] = value
  hash.dirty[field] = true
end
local function add(hash, field, value)
  put(hash, field, get(hash, field) + value)
end
local function store(hash)
  local flat = {}
  for field in pairs(hash.dirty) do
    local value = hash.fields[field]
    flat[#flat + 1] = field
    flat[#flat + 1] = type(value) == 'number' and int(value) or value
  end
  if #flat > 0 then call('HSET', hash.key, unpack(flat)) end
  hash.dirty = {}
end

local meta = load(KEYS[1])

-- Slots: a number for each subscription of a node, never used again.
local slots = {}
local function slot_of(number)
  local known = slots[number]
  if not known then
    known = load(P .. 'slot:' .. number)
    known.number = number
    slots[number] = known
  end
  return known
end
-- Those that are subscribed, read once; whoever changes them says so.
local subscribed
local function resubscribed()
  subscribed = nil
end
local function live()
  if not subscribed then
    subscribed = {}
    for _, number in ipairs(call('HVALS', P .. 'names')) do subscribed[#subscribed + 1] = slot_of(number) end
  end
  return subscribed
end
local function ended()
  local all = {}
  for _, number in ipairs(call('SMEMBERS', P .. 'ended')) do all[#all + 1] = slot_of(number) end
  return all
end
local function store_all()
  store(meta)
  for _, slot in pairs(slots) do store(slot) end
end

-- Entries: what an update is, 23 bytes each.
local function entry_key(seq)
  return P .. 'e:' .. int(floor(seq / CHUNK))
end
local function entry(seq)
  local at = (seq % CHUNK) * 23
  local bytes = call('GETRANGE', entry_key(seq), at, at + 22)
  if #bytes < 23 then return nil end
  local size, needed, flags, received, at_ms = struct.unpack('>I8I2BI6I6', bytes)
  return { size = size, needed = needed, flags = flags, received = received, at_ms = at_ms }
end
local function set_entry(seq, e)
  call('SETRANGE', entry_key(seq), (seq % CHUNK) * 23,
    struct.pack('>I8I2BI6I6', e.size, e.needed, e.flags, e.received, e.at_ms))
end
local DELETE, KEYED, SPOOLED = 1, 2, 4
local function has(flags, flag)
  return floor(flags / flag) % 2 == 1
end

-- Cells: what a node has done with an update, 21 bytes each.
local NO_DIGEST = string.rep('\0', 8)
local function cell_key(slot, seq)
  return P .. 'c:' .. slot.number .. ':' .. int(floor(seq / CHUNK))
end
local function cell(slot, seq)
  local at = (seq % CHUNK) * 21
  local bytes = call('GETRANGE', cell_key(slot, seq), at, at + 20)
  if #bytes < 21 then
    return { state = PENDING, attempts = 0, failures = 0, first = 0, status = 0, digest = NO_DIGEST }
  end
  local state, attempts, failures, first, status, digest = struct.unpack('>BI4I4I2I2c8', bytes)
  return { state = state, attempts = attempts, failures = failures, first = first, status = status, digest = digest }
end
local function set_cell(slot, seq, c)
  call('SETRANGE', cell_key(slot, seq), (seq % CHUNK) * 21,
    struct.pack('>BI4I4I2I2c8', c.state, c.attempts, c.failures, c.first, c.status, c.digest))
end
local function is_open(state)
  return state == PENDING or state == TRYING
end
-- Whether an update is one of those that the slot got.
local function is_for(slot, seq)
  local till = slot.fields['until']
  return seq >= get(slot, 'since') and seq < get(meta, 'next') and (not till or seq < tonumber(till))
end

-- Attempts that may have been made by those who did not live to tell: one for each mark above the update.
local function bumps(slot, seq)
  local count = 0
  for mark in string.gmatch(slot.fields.bumps or '', '%d+') do
    if tonumber(mark) > seq then count = count + 1 end
  end
  return count
end
local function bump(slot)
  local kept, low = {}, get(slot, 'low')
  for mark in string.gmatch(slot.fields.bumps or '', '%d+') do
    if tonumber(mark) > low then kept[#kept + 1] = mark end
  end
  if get(meta, 'next') > low then kept[#kept + 1] = int(get(meta, 'next')) end
  put(slot, 'bumps', table.concat(kept, ','))
end

local function scope_key(scope)
  return P .. 'k:' .. scope
end
local function forget_key(scope)
  call('DEL', scope_key(scope))
  call('ZREM', P .. 'keys', scope)
end
local function purge_keys()
  local old = call('ZRANGEBYSCORE', P .. 'keys', '-inf', '(' .. int(now_ms), 'LIMIT', 0, 200)
  for _, scope in ipairs(old) do forget_key(scope) end
  return #old
end

-- What others are told, a line each.
local news = {}
local function tell(...)
  news[#news + 1] = table.concat({ ... }, ' ')
end
local function publish(instance)
  if #news > 0 then
    call('PUBLISH', P .. 'news', table.concat({ instance, int(get(meta, 'next')), table.concat(news, '\n') }, '\n'))
  end
end

-- An update is settled on every node: its room is free, its key is remembered from now on by time alone.
local function completed(seq, e)
  e.at_ms = now_ms
  add(meta, 'pending_bytes', -e.size)
  if has(e.flags, KEYED) then
    local scope = call('HGET', P .. 'scopes', int(seq))
    if scope then
      call('HDEL', P .. 'scopes', int(seq))
      local at = tonumber(call('HGET', scope_key(scope), 'at') or '0')
      call('ZADD', P .. 'keys', int(at + get(meta, 'remember_ms')), scope)
    end
  end
end

-- The slot's cursor passes what is settled.
local function advance(slot, seq)
  if seq ~= get(slot, 'low') then return end
  local last = tonumber(slot.fields['until'] or get(meta, 'next'))
  local low = seq + 1
  while low < last do
    local at = (low % CHUNK) * 21
    local state = call('GETRANGE', cell_key(slot, low), at, at)
    if #state == 0 or is_open(string.byte(state)) then break end
    low = low + 1
  end
  put(slot, 'low', low)
end

-- Records how an update ended on a node. `c` is its cell with everything set but what was pending before.
local function settle(slot, seq, c, was_open)
  set_cell(slot, seq, c)
  if not was_open then return end
  local e = entry(seq)
  if e then
    add(slot, 'pending', -1)
    add(slot, 'bytes', -e.size)
    if has(e.flags, DELETE) then add(slot, 'deletes', -1) end
    e.needed = e.needed - 1
    if e.needed == 0 then completed(seq, e) end
    set_entry(seq, e)
  end
  advance(slot, seq)
end

-- Settles as discarded what a slot has open, a bounded number of them; true when there may be more.
local function discard(slot, before, most)
  local seq, count, looked = get(slot, 'low'), 0, 0
  while seq < before and looked < most do
    local c = cell(slot, seq)
    if is_open(c.state) then
      c.state, c.attempts = DISCARDED, c.attempts + bumps(slot, seq)
      settle(slot, seq, c, true)
      count = count + 1
    end
    looked = looked + 1
    seq = seq + 1
  end
  return count, seq < before
end

