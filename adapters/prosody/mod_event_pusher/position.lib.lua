-- The last delivered event, so that a restart does not resend everything: one short line, overwritten in place. Losing
-- it only causes duplicates.
return function (path)
	local file;
	local position = {};

	-- Returns { epoch, seq, name, head }: the last event that an earlier run delivered, its file, and where it ends.
	-- Version 0.1.0 wrote only the first two.
	function position.read()
		local old = io.open(path, "rb");
		local epoch, seq, name, head = (old and old:read("*l") or ""):match("^(%S+) (%d+) ?(%S*) ?(%d*)$");
		if old then old:close(); end
		return { epoch = epoch or "", seq = tonumber(seq or 0), name = name or "", head = tonumber(head) or 0 };
	end

	function position.write(segment)
		if not file then
			file = io.open(path, "r+b") or io.open(path, "w+b");
			if not file then return; end
			file:setvbuf("no");
		end
		local name = segment.path:match("[^/]*$");
		file:seek("set", 0);
		file:write(("%s %016d %s %016d\n"):format(segment.epoch, segment.head_seq - 1, name, segment.head));
	end

	function position.close()
		if file then file:close(); end
	end

	return position;
end
