-- The dead letters, each under the name that its node has now or had when it ended, and its record.
local rows, flat = {}, call('HGETALL', P .. 'dead')
for i = 1, #flat, 2 do
  local letter = cmsgpack.unpack(flat[i + 1])
  local slot = slot_of(string.match(flat[i], '^%d+'))
  local name = slot.fields.name or letter[1]
  if ARGV[1] == '' or ARGV[1] == name then
    rows[#rows + 1] = { flat[i], name, letter[2], letter[3], letter[4], letter[5], call('GET', P .. 'd:' .. flat[i]) or '' }
  end
end
return rows
