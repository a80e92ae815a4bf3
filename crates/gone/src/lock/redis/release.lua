local token = tonumber(ARGV[6])
if not rec or rec.token ~= token or rec.owner ~= owner or rec.released or rec.run ~= run then
  return reply('lost')
end
rec.released, rec.end_us, rec.written_us = true, now, now
save(rec)
if legacy == address then
  redis.call('DEL', KEYS[2])
end
redis.call('PUBLISH', ARGV[5], int(token))
return reply('released')
