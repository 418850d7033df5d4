-- Reads batches of events from the queue's files. Keeps the last file open.

local batch_bytes = 1000 * 1000; -- of events; the request stays below 1 MiB, a common limit of proxies

local left_brace = ("{"):byte();

-- Returns how many lines of the text fit a batch of at most `limit` events, and where the last one ends.
local function count_lines(text, limit)
	local lines, stop = 0, 0;
	while lines < limit and text:byte(stop + 1) == left_brace do
		local newline = text:find("\n", stop + 1, true);
		if not newline then break; end
		lines, stop = lines + 1, newline;
	end
	return lines, stop;
end

-- Moves a segment's head past dropped events.
local function skip_dropped(segment, text)
	local stop = 0;
	while true do
		local sign, number, next_line = text:match("^!([+=]?)(%d+)[^\n]*\n()", stop + 1);
		if not number then break; end
		if sign ~= "=" then segment.head_seq = tonumber(number) + (sign == "+" and segment.head_seq or 1); end
		stop = next_line - 1;
	end
	segment.head = segment.head + stop;
	return stop > 0;
end

return function ()
	local path, file;
	local reader = {};

	function reader.close()
		if file then file:close(); end
		path, file = nil, nil;
	end

	local function read_at(segment, bytes)
		if path ~= segment.path then
			reader.close();
			local err;
			file, err = io.open(segment.path, "rb");
			if not file then return nil, err; end
			path = segment.path;
		end
		file:seek("set", segment.head);
		return file:read(math.min(bytes, segment.size - segment.head));
	end

	-- Returns the segment's next batch of at most `limit` events, { segment, first, count, bytes, parts }. Returns nil and
	-- an error if the file can't be read, nil alone if its content is not what was written.
	function reader.read(segment, limit)
		local bytes = batch_bytes;
		while true do
			local text, err = read_at(segment, bytes);
			if not text then return nil, err; end
			local lines, stop = count_lines(text, limit);
			if lines > 0 then
				if stop < #text then text = text:sub(1, stop); end
				return { segment = segment, first = segment.head_seq, count = lines, bytes = stop, parts = { text } };
			elseif not skip_dropped(segment, text) then
				-- The first line is longer than what was read.
				if #text < bytes then return nil; end
				bytes = bytes * 4;
			end
		end
	end

	return reader;
end
