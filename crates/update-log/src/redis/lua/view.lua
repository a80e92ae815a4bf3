-- The log as everybody may see it: numbers, then each subscribed node.
if not meta.fields.epoch then return { {}, {} } end
local rows = {}
for _, slot in ipairs(live()) do
  local low = get(slot, 'low')
  local oldest = low < get(meta, 'next') and entry(low)
  rows[#rows + 1] = { slot.number, slot.fields.name, int(low), int(get(slot, 'pending')), int(get(slot, 'deletes')),
    int(get(slot, 'bytes')), oldest and int(oldest.received) or '' }
end
return { { int(get(meta, 'next')), int(get(meta, 'first')), int(get(meta, 'pending_bytes')), int(get(meta, 'total_bytes')),
  int(call('ZCARD', P .. 'keys')), int(call('HLEN', P .. 'dead')), int(get(meta, 'shared')), int(get(meta, 'lost')) }, rows }
