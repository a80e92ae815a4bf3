-- What every node has done with the updates of a range within one chunk. ARGV: the first, the last.
local first, last = tonumber(ARGV[1]), min(tonumber(ARGV[2]), get(meta, 'next') - 1)
first = max(first, get(meta, 'first'))
if not meta.fields.epoch or last < first then return { '0', '', {}, {} } end
local a, b = first % CHUNK, last % CHUNK
local rows = {}
local function row(slot)
  local till = tonumber(slot.fields['until'] or int(get(meta, 'next')))
  if get(slot, 'since') > last or till <= first then return end
  rows[#rows + 1] = { slot.number, slot.fields.name, int(get(slot, 'since')), int(till), slot.fields.bumps or '',
    call('GETRANGE', cell_key(slot, first), a * 21, b * 21 + 20) }
end
for _, slot in ipairs(live()) do row(slot) end
for _, slot in ipairs(ended()) do row(slot) end
return { int(first), call('GETRANGE', entry_key(first), a * 23, b * 23 + 22), rows,
  call('HGETALL', P .. 'x:' .. int(floor(first / CHUNK))) }
