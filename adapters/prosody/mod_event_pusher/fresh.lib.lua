-- Caches the events written last, so that they are sent without reading them back. When delivery lags behind, the cache
-- is cleared, and delivery reads files until it catches up.

local max_bytes = 1024 * 1024;

return function ()
	local units, bytes = {}, 0; -- in order: { segment, first, offset, text, events }
	local fresh = {};

	function fresh.clear()
		units, bytes = {}, 0;
	end

	-- Caches a unit that was just appended to a segment, starting with this number.
	function fresh.keep(segment, first, unit)
		if unit.events == 0 or bytes > max_bytes then fresh.clear(); end
		if unit.events == 0 then return; end
		unit.segment, unit.first, unit.offset = segment, first, segment.size - #unit.text;
		units[#units + 1], bytes = unit, bytes + #unit.text;
	end

	-- Returns the segment's next batch of at most `limit` events; nil if the cache does not begin with its first event.
	function fresh.batch(segment, limit)
		while units[1] and units[1].first < units[1].segment.head_seq do
			bytes = bytes - #table.remove(units, 1).text;
		end
		local batch = { segment = segment, first = segment.head_seq, count = 0, bytes = 0, parts = {} };
		for _, unit in ipairs(units) do
			-- By the offset: a line between them may use up no number.
			local is_next = unit.segment == segment and unit.offset == segment.head + batch.bytes;
			if not is_next or batch.count + unit.events > limit or batch.bytes + #unit.text > max_bytes then break; end
			batch.count, batch.bytes = batch.count + unit.events, batch.bytes + #unit.text;
			batch.parts[#batch.parts + 1] = unit.text;
		end
		return batch.count > 0 and batch or nil;
	end

	-- Returns how many numbers lie between the segment's next event and its first cached one.
	function fresh.events_before(segment)
		local unit = units[1];
		local between = unit and unit.segment == segment and unit.first - segment.head_seq or 0;
		return between > 0 and between or math.huge;
	end

	return fresh;
end
