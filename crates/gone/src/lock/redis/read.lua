local ours = rec and not rec.released and rec.address == legacy
return reply(legacy and not ours and 'shown-foreign' or 'shown')
