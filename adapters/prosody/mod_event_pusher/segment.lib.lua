-- The files of the queue, called segments: writing and reading them.
--
-- A segment begins with a header line and the sessions that were open then, one "+jid" per line, and "=". Then each
-- number has a line: an event, as "{...},", or "!+count change" for `count` dropped events, with the last one's change
-- to the ledger, if any. "!=count change" uses up no number: `count` lost numbers that the daemon would not notice
-- (queue.lib.lua). Version 0.1.0 wrote "!number change": dropped up to this number.
--
-- Invariants:
--  - Only the run that began a file appends to it, so an incomplete last line stays incomplete and counts as not
--    written.
--  - A damaged line only loses itself. How many numbers it had is unknown, so the lines after it get an epoch of their
--    own: a hash of the next line, the same at each reading. The damage counts as one lost number that the daemon has
--    not noticed, since it notices none before the first number of an epoch.

local json_decode = require "util.json".decode;
local is_utf8 = require "util.encodings".utf8.valid;
local sha256 = require "util.hashes".sha256;

-- The start of the first line, with the version of the file format. Files of a later version are neither read nor
-- changed.
local version = 1;
local signature = "event-pusher "..version.."\t";
local segment = {};

-- Epoch and number have a fixed length, since they may be overwritten in place. The empty field was the boot's identity
-- in version 0.1.0, which still expects it.
local function header(source, epoch, first)
	return signature..("%s\t%s\t\t%016d\n"):format(source, epoch, first);
end

-- Returns the line of a unit whose events were dropped.
function segment.dropped(unit)
	local count = unit.unseen and "="..unit.unseen or "+"..unit.numbers;
	return ("!%s%s\n"):format(count, unit.change and " "..unit.change or "");
end

-- Begins a file. Returns it and its size; or nil and the error, after deleting the file.
function segment.create(path, source, epoch, first, sessions, unseen)
	local lines = { header(source, epoch, first) };
	for _, jid in ipairs(sessions) do lines[#lines + 1] = "+"..jid.."\n"; end
	lines[#lines + 1] = "=\n";
	if unseen > 0 then lines[#lines + 1] = segment.dropped({ unseen = unseen }); end
	local head = table.concat(lines);
	local file, err = io.open(path, "wb");
	if not file then return nil, err; end
	file:setvbuf("full", 64 * 1024);
	local ok, write_err = file:write(head);
	if ok then ok, write_err = file:flush(); end
	if ok then return file, #head; end
	file:close();
	os.remove(path);
	return nil, write_err;
end

-- Changes a segment's epoch and first number on disk. Returns nil and the error on failure.
function segment.renumber(path, source, epoch, first)
	local file, err = io.open(path, "r+b");
	if not file then return nil, err; end
	local ok, write_err = file:write(header(source, epoch, first));
	file:close();
	return ok, write_err;
end

-- Returns the next complete line; nil at the end.
local function read_line(reading)
	local line = reading.file:read("*l");
	if not line or reading.offset + #line + 1 > reading.bytes then return nil; end
	reading.offset = reading.offset + #line + 1;
	return line;
end

-- Reads the beginning of a file. Returns { path, file, source, epoch, first, sessions, … } for segment.read; source is
-- missing if the beginning is damaged. Returns nil and an error if the file can't be opened or has a later version. The
-- second value is true if the file ends within its beginning: its writer was killed.
function segment.open(path)
	local file, err = io.open(path, "rb");
	if not file then return nil, err; end
	local reading = { path = path, file = file, bytes = file:seek("end"), offset = 0, sessions = {} };
	file:seek("set", 0);
	local line = read_line(reading);
	local written = tonumber((line or ""):match("^event%-pusher (%d+)\t"));
	if written and written > version then
		file:close();
		return nil, ("%s was written by a later release (version %d of the file, this one reads up to %d)")
			:format(path, written, version);
	end
	local source, epoch, first = (line or ""):match("^event%-pusher 1\t([^\t]+)\t([^\t]+)\t[^\t]*\t(%-?%d+)$");
	while line do
		line = read_line(reading);
		if line == "=" and first then
			reading.source, reading.epoch, reading.first = source, epoch, tonumber(first);
			return reading, false;
		end
		if not line or line:sub(1, 1) ~= "+" then break; end
		table.insert(reading.sessions, line);
	end
	file:seek("set", 0);
	local beginning = file:read(#signature) or "";
	local is_ours = beginning == signature:sub(1, #beginning);
	local cut_short = line == nil and is_ours and (first ~= nil or reading.offset == 0);
	file:seek("set", 0);
	reading.sessions, reading.offset = {}, 0;
	return reading, cut_short;
end

-- Returns the number after a line; the line's change to the ledger, if any; and how many lost numbers the daemon would
-- not notice if the file ended here (`unseen`: before this line). Returns nil for a damaged line.
local function read_record(line, last, unseen)
	if line:find("[%z\1-\31]") or not is_utf8(line) then return nil; end
	if line:match('^{"kind":"message".*},$') then return last + 1, nil, 0; end
	if line:match('^{"kind":"presence".*},$') then
		local decoded, event = pcall(json_decode, line:sub(1, -2));
		if not decoded or type(event) ~= "table" or type(event.jid) ~= "string" then return nil; end
		return last + 1, (event.present and "+" or "-")..event.jid, 0;
	end
	local sign, number, change = line:match("^!([+=]?)(%d+) ?(.*)$");
	local seq = tonumber(number);
	if not seq then return nil; end
	if change == "" then change = nil; end
	if sign == "=" then return last, change, seq; end
	if sign == "+" then seq = last + seq; end
	if seq <= last then return nil; end
	return seq, change, unseen + seq - last;
end

function segment.is_event(line)
	return line:byte(1) == 123; -- {
end

-- Reads the events of a file from segment.open, and closes it. Events from the number `before` on, if given, are also
-- in the next file; events up to the position `delivered` are delivered. Calls changed(change) for each change to the
-- ledger. `unseen`: lost numbers in earlier files that the daemon has not noticed.
-- Returns the parts between damaged places, { path, source, epoch, first, last, head, head_seq, size, count }: head is
-- the offset of the first undelivered line, head_seq its number, count the number of undelivered events. Then the
-- number of undelivered damaged places, and the new value of `unseen`.
function segment.read(reading, own_source, before, delivered, changed, unseen)
	local parts, part, broken, damages = {}, nil, false, 0;
	local before_damage = 0; -- unseen up to the last damage; the file's later lines don't reveal these

	local function begin(epoch, first, offset)
		part = {
			path = reading.path, source = reading.source or own_source, epoch = epoch, first = first, last = first - 1,
			head = offset, head_seq = first, size = offset, count = 0;
		};
		parts[#parts + 1] = part;
	end

	local function damaged()
		broken, damages = true, damages + 1;
		before_damage, unseen = before_damage + unseen + 1, 0;
	end

	if reading.path:match("[^/]*$") == delivered.name then
		while reading.offset < delivered.head do
			local line = read_line(reading);
			if not line then break; end
			local _, change = read_record(line, -1, 0);
			if change then changed(change); end
		end
		unseen = 0;
		begin(delivered.epoch, delivered.seq + 1, reading.offset);
	elseif reading.source then
		begin(reading.epoch, reading.first, reading.offset);
	else
		damaged();
	end
	while true do
		local offset = reading.offset;
		local line = read_line(reading);
		if not line then break; end
		local seq, change, now_unseen = read_record(line, broken and 0 or part.last, unseen);
		if not seq then
			if not broken then damaged(); end
		else
			if broken then begin(sha256(line, true):sub(1, 24), 1, offset); end
			broken = false;
			if before and part.epoch == reading.epoch and seq >= before then break; end
			if change then changed(change); end
			part.last, part.size, unseen = seq, reading.offset, now_unseen;
			if seq < 1 or part.epoch == delivered.epoch and seq <= delivered.seq then
				part.head, part.head_seq = reading.offset, seq + 1;
			elseif segment.is_event(line) then
				part.count = part.count + 1;
			end
		end
	end
	reading.file:close();
	return parts, damages, before_damage + unseen;
end

return segment;
