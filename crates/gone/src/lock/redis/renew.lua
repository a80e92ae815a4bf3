local token, end_us = tonumber(ARGV[6]), tonumber(ARGV[7])
local in_time = now < end_us
local ours
if not rec then
  ours = in_time
elseif rec.run == run and rec.owner ~= '' then
  ours = rec.token == token and rec.owner == owner and not rec.released
else
  -- Lost, or an older lease: while ours runs, nobody can have another.
  ours = rec.token <= token and in_time
end
local taken = legacy and legacy ~= address
if not ours or taken then
  return reply(taken and 'lost-foreign' or 'lost')
end
hold(token)
return reply('renewed')
