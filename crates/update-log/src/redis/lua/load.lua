-- What a node has done with the updates from its cursor on. ARGV: its name.
local number = call('HGET', P .. 'names', ARGV[1])
if not number then return { {}, {} } end
local slot = slot_of(number)
local low, next = get(slot, 'low'), get(meta, 'next')
local chunks = {}
for chunk = floor(low / CHUNK), floor((next - 1) / CHUNK) do
  local cells = call('GET', P .. 'c:' .. number .. ':' .. int(chunk))
  if cells then chunks[#chunks + 1] = { int(chunk * CHUNK), cells } end
end
return { { number, int(low), int(next), slot.fields.bumps or '', int(get(slot, 'token')) }, chunks }
