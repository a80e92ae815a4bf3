-- The rules of lease/rules.rs, which is their definition. Every operation is this text and its own.
-- KEYS: the record; with compat also the original's key, whose value is its holder's address.
-- ARGV: owner, address, expiry in ms, '1' for compat, the channel of releases, then the request's own.
local owner, address, expiry_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local compat = ARGV[4] == '1'

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
-- Read here and not once at each dial: what stands behind an address can change under a connection.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

-- Whole numbers up to 2^53; tostring would round them.
local function int(number)
  return string.format('%.0f', number)
end

local function load()
  local f = redis.call('HMGET', KEYS[1], 'token', 'owner', 'address', 'expiry_ms', 'end_us', 'written_us', 'released', 'run')
  for i = 1, 8 do
    if not f[i] then return nil end
  end
  return { token = tonumber(f[1]), owner = f[2], address = f[3], expiry_ms = tonumber(f[4]),
    end_us = tonumber(f[5]), written_us = tonumber(f[6]), released = f[7] == '1', run = f[8] }
end

local function save(r)
  redis.call('HSET', KEYS[1], 'token', int(r.token), 'owner', r.owner, 'address', r.address,
    'expiry_ms', int(r.expiry_ms), 'end_us', int(r.end_us), 'written_us', int(r.written_us),
    'released', r.released and '1' or '0', 'run', r.run)
end

local function seen(r)
  return r.run .. '/' .. int(r.token) .. '/' .. int(r.written_us)
end

local rec = load()
local legacy = compat and redis.call('GET', KEYS[2]) or false

-- The asker holds the lease from now for one expiry.
local function hold(token)
  rec = { token = token, owner = owner, address = address, expiry_ms = expiry_ms,
    end_us = now + expiry_ms * 1000, written_us = now, released = false, run = run }
  save(rec)
  if compat then
    redis.call('SET', KEYS[2], address, 'PX', expiry_ms)
  end
end

-- The status, the clock and the run, the original's key and its time left, and the record as it stands now.
local function reply(status)
  local left = legacy and redis.call('PTTL', KEYS[2]) or -2
  local answer = { status, int(now), run, legacy or '', int(left) }
  if rec then
    for _, field in ipairs({ int(rec.token), rec.owner, rec.address, int(rec.expiry_ms), int(rec.end_us),
      int(rec.written_us), rec.released and '1' or '0', rec.run }) do
      answer[#answer + 1] = field
    end
  end
  return answer
end
