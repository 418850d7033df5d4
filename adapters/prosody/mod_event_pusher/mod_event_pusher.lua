-- xmpp-event-pusher's adapter for Prosody 0.12 and later. Load it on each VirtualHost; README.md has the options.
--
-- It watches one virtual host, numbers what its users do, keeps it in a queue on disk, and hands it to the daemon over
-- HTTP. One file, although it is a long one, because an operator then has one file to copy: options, the queue on disk,
-- delivery, the server's hooks, beginning and end, in this order.
--
-- What stays true:
--  * An event is sent only when its line is in the queue's file: what a killed server did not write was never sent, so
--    its number is free again, and no number ever means two events.
--  * The session ledger is derived from the events' own lines: after a kill both the event and the change that it tells
--    of are there, or neither is.
--  * Each segment file begins with the ledger as it was then. So a segment is deleted as soon as all its events are
--    acknowledged, and the newest one, which always stays, knows the epoch, the numbers and the open sessions.
--  * A file is never appended to by another run than the one that made it: a torn last line stays torn and is ignored.
--  * Numbers continue only when this run can be sure of what the last one sent: the same source, the same boot of the
--    machine (plain Lua has no fsync, so a crash of the whole machine may lose lines that were sent already), and no
--    damaged file. Otherwise a new epoch begins, and the old one's events are still delivered under their own numbers.
--  * A hook only appends to a table in memory. Files are written by a timer, all that gathered at once; by a hook only
--    where the server is so busy that the timer comes late.
--
-- What an event costs is mostly garbage for the collector, which Prosody tunes to run all the time, and then looking for
-- characters to escape. So an event becomes a string once, together with its neighbours: a unit, which is written as it is
-- and, as long as delivery keeps up, sent as it is. Only what is left behind is read back from the file. Most text is looked
-- at once and found to need nothing.

local async = require "util.async";
local datamanager = require "util.datamanager";
local connect = require "net.connect".connect;
local http_options = require "net.http".default.options;
local new_parser = require "net.http.parser".new;
local new_resolver = require "net.resolvers.basic".new;
local base64 = require "util.encodings".base64.encode;
local is_utf8 = require "util.encodings".utf8.valid;
local json = require "util.json";
local lfs = require "lfs";
local new_id = require "util.id".medium;
local pposix = require "util.pposix";
local sha256 = require "util.hashes".sha256;
local monotonic, now = require "util.time".monotonic, require "util.time".now;
local parse_url = require "socket.url".parse;
local verify_identity = require "util.x509".verify_identity;

local hosts, full_sessions = prosody.hosts, prosody.full_sessions;
local find, concat, floor, next, type = string.find, table.concat, math.floor, next, type;

local flush_interval = 0.045; -- seconds that events gather before they are written
local flush_delay = 0.005; -- how late the timer may come before the next event is not left to it
local flush_units = 12; -- that are not left to it either
local unit_events, unit_bytes = 40, 16 * 1024; -- that become one string
local flush_bytes = 1024 * 1024; -- written at once, so that what waited for disk space doesn't block the server
local disk_retry = 1; -- seconds
local segment_bytes = 4 * 1024 * 1024;
local batch_events, batch_bytes = 1000, 1024 * 1024;
local busy_events, busy_delay = 100, 0.1; -- after a batch of so many the next one waits until it is full, or for so long
local fresh_bytes = 1024 * 1024; -- of written events that are kept in memory to be sent
local backoff_first, backoff_max = 0.25, 5;
local retry_after_max = 300;
local shutdown_wait = 2; -- seconds to deliver what the shutdown itself caused

assert(module:get_host_type() == "local", "mod_event_pusher belongs on a VirtualHost, not on a component");

local url, secret, queue_max, answer_timeout, slow_retry;

local function read_options()
	local new_url = module:get_option_string("event_pusher_url");
	assert(new_url and new_url:match("^https?://") and parse_url(new_url).host,
		"event_pusher_url must be the http:// or https:// address of the tap");
	url = new_url;
	secret = module:get_option_string("event_pusher_secret");
	queue_max = module:get_option_number("event_pusher_queue_max", 1000000);
	answer_timeout = module:get_option_number("event_pusher_timeout", 15);
	slow_retry = module:get_option_number("event_pusher_slow_retry", 30);
end
read_options();

-- A function to be called for each of a kind of mishap; it logs the first at once, the others once a minute.
local function once_a_minute(level, format)
	local count, timer, last = 0, nil, "";
	local function report()
		timer = nil;
		if count == 0 then return; end
		module:log(level, format, count, last);
		count = 0;
		timer = module:add_timer(60, report);
	end
	return function (detail)
		count, last = count + 1, detail or "";
		if not timer then report(); end
	end
end

local report_drop = once_a_minute("error", "The queue is full (event_pusher_queue_max): %d event(s) dropped%s");
local report_disk = once_a_minute("error", "Cannot write to the queue (%d attempt(s)), events wait in memory: %s");
local report_unreadable = once_a_minute("error", "Cannot read the queue (%d attempt(s)), events wait: %s");
local report_lost = once_a_minute("error", "A file of the queue is gone or cut short, its events are lost (%d time(s)): %s");

---- The queue on disk

local folder = prosody.paths.data.."/"..datamanager.path_encode(module.host).."/event_pusher";
local position_path = folder.."/position";

local function machine_boot()
	local file = io.open("/proc/sys/kernel/random/boot_id");
	if not file then return ""; end
	local id = file:read("*l");
	file:close();
	return id or "";
end

local function source_name()
	local name = ("prosody/%s@%s"):format(module.host, pposix.uname().nodename);
	if #name <= 256 then return name; end
	return "prosody/"..sha256(name, true);
end

local source, boot = source_name(), machine_boot();
local epoch;
local last_seq, disk_seq = 0, 0; -- the last number given, and the last one on disk
local segments = {}; -- oldest first: { path, source, epoch, boot, first, last, size, head, head_seq, count, marks, fresh }
local writer; -- the last segment's open file, once this run has begun a segment of its own
local file_number = 0;
local pieces, piece_count = {}, 0; -- of the events that gather to become a unit
local gathered, gathered_bytes = 0, 0; -- how many these are, and how long their texts
local pending, pending_first, pending_last = {}, 1, 0; -- units that are not on disk yet: { text, count, last }
local pending_changes = {}; -- of the ledger, told by those units: { unit = its index, change }
local pending_drop; -- the index of the last pending unit, where that is of a run of dropped messages
local waiting = 0; -- events not acknowledged, on disk or pending
local acked = { epoch = "", seq = 0 };
local position_file;
local flush_timer, flush_by; -- and when it should have come

-- The session ledger: which sessions the daemon was told (or will be) to be available.
local ledger, session_counts = {}, {};

local function bare(full_jid)
	return (full_jid:match("^[^/]*"));
end

-- change is "+" or "-" and the full JID
local function change_ledger(change)
	local jid, present = change:sub(2), change:sub(1, 1) == "+";
	if (ledger[jid] == true) == present then return; end
	ledger[jid] = present or nil;
	local user = bare(jid);
	local count = (session_counts[user] or 0) + (present and 1 or -1);
	session_counts[user] = count > 0 and count or nil;
end

-- The ledger as far as it is on disk: changes alternate for each session, so the first one pending tells what was before.
local function ledger_on_disk()
	local before, lines = {}, {};
	for _, entry in ipairs(pending_changes) do
		local jid = entry.change:sub(2);
		if before[jid] == nil then before[jid] = entry.change:sub(1, 1) == "-"; end
	end
	for jid in pairs(ledger) do
		if before[jid] == nil then lines[#lines + 1] = "+"..jid.."\n"; end
	end
	for jid, present in pairs(before) do
		if present then lines[#lines + 1] = "+"..jid.."\n"; end
	end
	return table.concat(lines);
end

-- Segments without events to deliver go, wherever they are; the last one stays for what it knows.
local function delete_done()
	local keep = {};
	for i, segment in ipairs(segments) do
		if segment.count > 0 or i == #segments then
			keep[#keep + 1] = segment;
		else
			os.remove(segment.path);
		end
	end
	segments = keep;
end

-- A segment file: a header line; the sessions open at that time, one "+jid" a line; "="; and then one line for each
-- number: an event, ready to stand in a batch, as "{...},"; or "!number change", when the events up to that number were
-- dropped, with the change of the ledger that the last of them would have told, if any.
local header_format = "event-pusher 1\t%s\t%s\t%s\t%d\n";

local function close_writer()
	if writer then writer.file:close(); end
	writer = nil;
end

local function begin_segment()
	local head = header_format:format(source, epoch, boot, disk_seq + 1)..ledger_on_disk().."=\n";
	lfs.mkdir((folder:gsub("/[^/]*$", "")));
	lfs.mkdir(folder);
	local path = ("%s/%012d.log"):format(folder, file_number + 1);
	local file, err = io.open(path, "wb");
	if not file then return nil, err; end
	file:setvbuf("full", 64 * 1024);
	local ok, write_err = file:write(head);
	if ok then ok, write_err = file:flush(); end
	if not ok then
		file:close();
		os.remove(path);
		return nil, write_err;
	end
	file_number = file_number + 1;
	local before_last = segments[#segments - 1]; -- memory is for two at most
	if before_last then before_last.fresh = nil; end
	writer = { file = file, limit = math.max(segment_bytes, 4 * #head) };
	segments[#segments + 1] = {
		path = path; source = source; epoch = epoch; boot = boot; first = disk_seq + 1; last = disk_seq;
		head = #head; head_seq = disk_seq + 1; size = #head; count = 0;
		marks = {}; -- where batches may end, so that they needn't be searched for it: { size, last }
		fresh = { bytes = 0 }; -- the last units, as far as they are in memory and not acknowledged
	};
	return true;
end

local function write_units(first, last)
	local file = writer.file;
	for i = first, last do
		local ok, err = file:write(pending[i].text);
		if not ok then return nil, err; end
	end
	return file:flush();
end

-- Writes pending units from first to last. When that fails, a part of them may be in the file, so the writer is closed and
-- the next attempt goes into a new one; a file that this attempt began goes at once, for the space it takes.
local function append(first, last)
	local last_segment = segments[#segments];
	-- What is written to a file that somebody deleted or cut short would be lost.
	if writer and (last_segment.size >= writer.limit or lfs.attributes(last_segment.path, "size") ~= last_segment.size) then
		close_writer();
	end
	local begin = not writer;
	if begin then
		local ok, err = begin_segment();
		if not ok then return nil, err; end
	end
	local ok, err = write_units(first, last);
	if not ok then
		close_writer();
		if begin then os.remove(table.remove(segments).path); end
		return nil, err;
	end
	if begin then delete_done(); end
	return true;
end

local deliver;

local event_byte = ("{"):byte();

local function is_event(line)
	return line:byte(1) == event_byte;
end

-- Makes a unit of the events that have gathered.
local function join()
	if gathered == 0 then return; end
	pending_last = pending_last + 1;
	pending[pending_last] = { text = concat(pieces, "", 1, piece_count), count = gathered };
	piece_count, gathered, gathered_bytes = 0, 0, 0;
end

local function is_pending()
	return gathered > 0 or pending_first <= pending_last;
end

-- Keeps a unit that is on disk now to be sent, unless delivery lags behind.
local function keep_fresh(segment, unit)
	if unit.count == 0 or segment.fresh.bytes >= fresh_bytes then segment.fresh = { bytes = 0 }; end
	if unit.count == 0 then return; end
	local fresh = segment.fresh;
	fresh[#fresh + 1], fresh.bytes = unit, fresh.bytes + #unit.text;
end

local write_bytes = flush_bytes;

local function write_pending()
	join();
	local first, last, bytes = pending_first, pending_first - 1, 0;
	while last < pending_last and bytes < write_bytes do
		last = last + 1;
		bytes = bytes + #pending[last].text;
	end
	local ok, err = append(first, last);
	if not ok then
		report_disk(err);
		write_bytes = flush_bytes / 16; -- maybe so much fits
		return false;
	end
	write_bytes = math.min(flush_bytes, write_bytes * 2);
	local segment = segments[#segments];
	for i = first, last do
		local unit = pending[i];
		unit.last = unit.last or disk_seq + unit.count;
		disk_seq, segment.count = unit.last, segment.count + unit.count;
		keep_fresh(segment, unit);
	end
	segment.size, segment.last = segment.size + bytes, disk_seq;
	local marks = segment.marks;
	local mark = marks[#marks];
	if disk_seq - (mark and mark.last or segment.head_seq) >= batch_events / 2 then
		marks[#marks + 1] = { size = segment.size, last = disk_seq };
	end
	if last == pending_last then
		pending, pending_first, pending_last, pending_changes = {}, 1, 0, {};
		return true;
	end
	local changes = {};
	for _, entry in ipairs(pending_changes) do
		if entry.unit > last then changes[#changes + 1] = entry; end
	end
	for i = first, last do pending[i] = nil; end
	pending_first, pending_changes = last + 1, changes;
	return true;
end

local schedule_flush;

local function flush()
	if flush_timer then flush_timer:stop(); end
	flush_timer = nil;
	if is_pending() then
		local written = write_pending();
		if is_pending() then schedule_flush(written and 0 or disk_retry); end
	end
	deliver();
end

function schedule_flush(delay)
	if flush_timer then return; end
	flush_by = now() + delay + flush_delay;
	flush_timer = module:add_timer(delay, function ()
		flush_timer = nil;
		flush();
	end);
end

local function flush_all()
	while is_pending() do
		if not write_pending() then return; end
	end
end

-- Where delivery got to, so that a restart doesn't send everything again: one small line, always of one length, written
-- in place. Losing it costs duplicates only.
local function write_position()
	if not position_file then
		position_file = io.open(position_path, "r+b") or io.open(position_path, "w+b");
		if not position_file then return; end
		position_file:setvbuf("no");
	end
	position_file:seek("set", 0);
	position_file:write(("%s %016d\n"):format(acked.epoch, acked.seq));
end

-- Prosody runs no timer as long as any connection has something to read. So a server at its limit writes here.
local function flush_soon(time)
	if not flush_timer then
		schedule_flush(flush_interval);
	elseif time > flush_by or gathered == 0 and pending_last - pending_first + 1 == flush_units then
		flush();
	end
end

-- Takes an event in, whose pieces were added up to this one, at this time; with how long its text is, and the change of
-- the ledger that it tells, if any.
local function enqueued(last_piece, time, text_bytes, change)
	piece_count, last_seq, waiting = last_piece, last_seq + 1, waiting + 1;
	gathered, gathered_bytes = gathered + 1, gathered_bytes + text_bytes;
	if change then pending_changes[#pending_changes + 1] = { unit = pending_last + 1, change = change }; end
	if gathered == unit_events or gathered_bytes > unit_bytes then join(); end
	flush_soon(time);
end

-- Uses up the number of an event that found the queue full.
local function drop(change)
	last_seq = last_seq + 1;
	if pending_drop == pending_last and gathered == 0 and pending_first <= pending_last and not change then
		-- A run of dropped messages is one line, whatever its length.
		pending[pending_last] = { text = ("!%d\n"):format(last_seq), count = 0, last = last_seq };
		return;
	end
	join();
	pending_last = pending_last + 1;
	pending[pending_last] = { text = ("!%d%s\n"):format(last_seq, change and " "..change or ""), count = 0, last = last_seq };
	if change then pending_changes[#pending_changes + 1] = { unit = pending_last, change = change }; end
	pending_drop = not change and pending_last or nil;
	flush_soon(now());
end

---- Reading the queue that an earlier run left

-- The next whole line; nil at the end, where a line without its newline counts as not written.
local function read_line(segment)
	local line = segment.file:read("*l");
	if not line or segment.offset + #line + 1 > segment.bytes then return nil; end
	segment.offset = segment.offset + #line + 1;
	return line;
end

local function next_of(segment)
	return function () return read_line(segment); end
end

-- Reads how a segment begins: its header and the sessions that were open then. Otherwise nil, what is wrong with it, and
-- whether that is just how far a kill let it come.
local function open_segment(path)
	local file, err = io.open(path, "rb");
	if not file then return nil, err; end
	local segment = { path = path, file = file, bytes = file:seek("end"), offset = 0, sessions = {} };
	file:seek("set", 0);
	local header = read_line(segment);
	local from, in_epoch, in_boot, first = (header or ""):match("^event%-pusher 1\t([^\t]+)\t([^\t]+)\t([^\t]*)\t(%d+)$");
	if header and not first then return nil, "it does not begin as a segment does"; end
	segment.source, segment.epoch, segment.boot, segment.first = from, in_epoch, in_boot, tonumber(first);
	for line in next_of(segment) do
		if line == "=" then
			segment.head = segment.offset;
			return segment;
		end
		if line:sub(1, 1) ~= "+" then return nil, "its list of sessions is broken"; end
		table.insert(segment.sessions, line);
	end
	return nil, "it was cut short", true;
end

-- The number that a line brings a segment to, and the change of the ledger it tells; nil when the line is broken.
local function read_record(line, last)
	if line:find("%c") or not is_utf8(line) then return nil; end
	if line:match('^{"kind":"message".*},$') then return last + 1; end
	if line:match('^{"kind":"presence".*},$') then
		local event = json.decode(line:sub(1, -2));
		return event and last + 1, event and (event.present and "+" or "-")..event.jid;
	end
	local number, change = line:match("^!(%d+) ?(.*)$");
	local seq = tonumber(number);
	if not seq or seq <= last then return nil; end
	return seq, change ~= "" and change or nil;
end

-- Reads the events of a segment up to the number that the next one begins with. Returns what is wrong with them.
local function read_events(segment, before)
	ledger, session_counts = {}, {};
	for _, change in ipairs(segment.sessions) do change_ledger(change); end
	segment.size, segment.last, segment.count = segment.head, segment.first - 1, 0;
	segment.head_seq, segment.marks = segment.first, {};
	for line in next_of(segment) do
		local seq, change = read_record(line, segment.last);
		if not seq then return ("the line after number %d is broken"):format(segment.last); end
		if before and seq >= before then return; end
		if change then change_ledger(change); end
		segment.last, segment.size = seq, segment.offset;
		if segment.epoch == acked.epoch and seq <= acked.seq then
			segment.head, segment.head_seq = segment.offset, seq + 1;
		elseif is_event(line) then
			segment.count = segment.count + 1;
		end
	end
end

local function read_position()
	local file = io.open(position_path, "rb");
	if not file then return; end
	local position_epoch, seq = (file:read("*l") or ""):match("^(%S+) (%d+)$");
	file:close();
	if seq then acked = { epoch = position_epoch, seq = tonumber(seq) }; end
end

local function segment_paths()
	local paths = {};
	if lfs.attributes(folder, "mode") == "directory" then
		for name in lfs.dir(folder) do
			local number = name:match("^(%d+)%.log$");
			if number then
				paths[#paths + 1] = folder.."/"..name;
				file_number = math.max(file_number, tonumber(number));
			end
		end
	end
	table.sort(paths);
	return paths;
end

-- Returns whether what the last run sent is in doubt.
local function load_segments()
	local paths, damaged = segment_paths(), false;
	for i, path in ipairs(paths) do
		local segment, why, cut_short = open_segment(path);
		if segment then
			segments[#segments + 1] = segment;
		elseif cut_short and i == #paths then
			os.remove(path); -- nothing in it was ever sent
		else
			damaged = true;
			module:log("error", "Damaged queue file kept as %s.damaged: %s", path, why);
			os.rename(path, path..".damaged");
		end
	end
	for i, segment in ipairs(segments) do
		-- After a write that failed half-way, the next segment begins with what was to be written.
		local following = segments[i + 1];
		local before = following and following.epoch == segment.epoch and following.first or nil;
		local why = read_events(segment, before);
		segment.file:close();
		segment.file, segment.sessions = nil, nil;
		waiting = waiting + segment.count;
		if why then
			damaged = true;
			module:log("error", "Damaged queue file %s: %s; what follows in it is lost", segment.path, why);
		end
	end
	return damaged;
end

local function load_queue()
	read_position();
	local damaged = load_segments();
	local last = segments[#segments];
	if last and not damaged and last.source == source and last.boot == boot and boot ~= "" then
		epoch, last_seq = last.epoch, last.last;
	else
		epoch = new_id();
		module:log("info", "New queue epoch %s for %s", epoch, source);
	end
	disk_seq = last_seq;
	delete_done();
	if waiting > 0 then module:log("info", "%d event(s) of an earlier run are to be delivered", waiting); end
end

---- Delivery: one batch at a time

local reader; -- the open file of the segment that is being delivered
local request; -- the batch under way
local retry_timer;
local not_before, pace_timer = 0, nil; -- when the next batch may be sent that is not full
local limit, failures, failing = batch_events, 0, nil;
local stopping = false;
local when_delivered; -- called when nothing is left to deliver, or when delivery fails

local function close_reader()
	if reader then reader.file:close(); end
	reader = nil;
end

-- The segment's events are gone. Their numbers are missing from then on, and so the loss is seen.
local function give_up(segment)
	report_lost(segment.path);
	waiting = waiting - segment.count;
	segment.count, segment.head = 0, segment.size;
	close_reader();
	if segment == segments[#segments] then close_writer(); end
	delete_done();
end

local function read_at(segment, offset, bytes)
	if not reader or reader.path ~= segment.path then
		close_reader();
		local file, err = io.open(segment.path, "rb");
		if not file then return nil, err; end
		reader = { path = segment.path, file = file };
	end
	reader.file:seek("set", offset);
	return reader.file:read(math.min(bytes, segment.size - offset));
end

-- The lines in the text that make a batch from the first one on. Returns how many, and where the last one ends.
local function count_lines(text)
	local count, stop = 0, 0;
	while count < limit and text:byte(stop + 1) == event_byte do
		local newline = text:find("\n", stop + 1, true);
		if not newline then break; end
		count, stop = count + 1, newline;
	end
	return count, stop;
end

-- Moves a segment's head over what was dropped there.
local function skip_dropped(segment, text)
	local stop = 0;
	while text:sub(stop + 1, stop + 1) == "!" do
		local number, next_line = text:match("^!(%d+)[^\n]*\n()", stop + 1);
		if not number then break; end
		segment.head_seq, stop = tonumber(number) + 1, next_line - 1;
	end
	segment.head = segment.head + stop;
	return stop > 0;
end

-- The next batch out of memory; nil when its first event is not there, or more than a batch may have would be.
local function fresh_batch(segment)
	local fresh = segment.fresh;
	if not fresh then return; end
	while fresh[1] and fresh[1].last < segment.head_seq do
		fresh.bytes = fresh.bytes - #fresh[1].text;
		table.remove(fresh, 1);
	end
	local count, bytes, events = 0, 0, {};
	for _, unit in ipairs(fresh) do
		if count == 0 and unit.last - unit.count + 1 ~= segment.head_seq then return; end
		if count + unit.count > limit or bytes + #unit.text > batch_bytes then break; end
		count, bytes = count + unit.count, bytes + #unit.text;
		events[#events + 1] = unit.text;
	end
	if count == 0 then return; end
	return { segment = segment, first = segment.head_seq, count = count, bytes = bytes, events = events };
end

-- The next batch from the file; or nil, with an error when it can't be read, without one when it isn't what was written.
local function read_batch(segment)
	local marks = segment.marks;
	while marks[1] and marks[1].last < segment.head_seq do table.remove(marks, 1); end
	-- Mostly nothing was dropped in what is left, and it makes one batch, or else the part up to a mark does.
	if segment.last - segment.head_seq + 1 == segment.count then
		local stop = segment.count <= limit and segment or marks[1] or segment;
		local count, bytes = stop.last - segment.head_seq + 1, stop.size - segment.head;
		if count <= limit and bytes <= batch_bytes then
			local events, err = read_at(segment, segment.head, bytes);
			if not events or #events < bytes or not is_event(events) then return nil, err; end
			-- From here on delivery has caught up: the units that follow are sent from memory.
			if segment.fresh and stop.last == segment.last then segment.fresh = { bytes = 0 }; end
			return { segment = segment, first = segment.head_seq, count = count, bytes = bytes, events = { events } };
		end
	end
	local bytes = batch_bytes;
	while true do
		local text, err = read_at(segment, segment.head, bytes);
		if not text then return nil, err; end
		local count, stop = count_lines(text);
		if count > 0 then
			return { segment = segment, first = segment.head_seq, count = count, bytes = stop, events = { text:sub(1, stop) } };
		elseif not skip_dropped(segment, text) then
			-- The first line is longer than that.
			if #text < bytes then return nil; end
			bytes = bytes * 4;
		end
	end
end

local function retry(delay)
	retry_timer = module:add_timer(delay, function ()
		retry_timer = nil;
		deliver();
	end);
end

local function next_batch()
	for _, segment in ipairs(segments) do
		if segment.count > 0 then
			local batch, err = fresh_batch(segment);
			if not batch then batch, err = read_batch(segment); end
			if batch then return batch; end
			close_reader();
			-- As long as the file is whole, it may be readable later: the server may be out of file descriptors now.
			if err and (lfs.attributes(segment.path, "size") or 0) >= segment.size then
				report_unreadable(err);
				return retry(backoff_max);
			end
			give_up(segment);
			return next_batch();
		end
	end
end

local function forget(batch)
	local segment, count = batch.segment, batch.count;
	segment.head, segment.head_seq = segment.head + batch.bytes, segment.head_seq + count;
	segment.count, waiting = segment.count - count, waiting - count;
	acked = { epoch = segment.epoch, seq = batch.first + count - 1 };
	write_position();
	if segment.count == 0 then delete_done(); end
	if segment.count == 0 and segment ~= segments[#segments] then close_reader(); end
end

local function log_rejected(batch, rejected)
	for _, refusal in ipairs(rejected) do
		local index, reason = tonumber(refusal.index), tostring(refusal.reason);
		module:log("warn", "The daemon refused event %s/%d: %s", batch.segment.epoch, batch.first + (index or 0), reason:sub(1, 200));
	end
end

local function shown_url()
	return (url:gsub("//[^/@]*@", "//"));
end

-- Logs the beginning of a failure, not each attempt, and again only when it became one that an operator has to mend.
local function failed(reason, level)
	failures = failures + 1;
	if not failing or (level == "error" and failing ~= reason) then
		module:log(level, "Cannot deliver to %s: %s; %d event(s) wait", shown_url(), reason, waiting);
		failing = reason;
	end
	if when_delivered then when_delivered(); end
end

local function backoff()
	local delay = math.min(backoff_max, backoff_first * 2 ^ math.min(failures - 1, 10));
	return delay * (0.75 + math.random() / 2);
end

-- What is to be done about an answer: "forget", "halve" or "keep"; for how many seconds then to wait; and why.
local function verdict(batch, status, headers, answer)
	if status == 200 then
		-- Anything between here and the daemon may say 200. Only the daemon says what it accepted.
		if type(answer) == "table" and type(answer.accepted) == "number" then return "forget"; end
		return "keep", nil, "status 200, but not the daemon's answer";
	elseif status == 413 and batch.count > 1 then
		return "halve";
	elseif status == 400 or status == 401 or status == 413 then
		local cause = type(answer) == "table" and type(answer.error) == "table" and tostring(answer.error.message) or "";
		return "keep", slow_retry, ("status %d %s"):format(status, cause:sub(1, 200)), "error";
	elseif status == 503 then
		local seconds = tonumber(headers["retry-after"]);
		return "keep", seconds and math.min(math.max(seconds, backoff_first), retry_after_max), "status 503";
	end
	return "keep", nil, ("status %d"):format(status);
end

local function answered(batch, status, headers, body)
	local decoded, answer = pcall(json.decode, body or "");
	if not decoded then answer = nil; end
	local decision, delay, reason, level = verdict(batch, status, headers, answer);
	if decision == "forget" then
		if failing then module:log("info", "Delivery to %s works again; %d event(s) wait", shown_url(), waiting - batch.count); end
		failing, failures = nil, 0;
		limit = math.min(batch_events, limit * 2);
		if type(answer.rejected) == "table" then log_rejected(batch, answer.rejected); end
		forget(batch);
		if waiting == 0 and when_delivered then when_delivered(); end
		return deliver();
	elseif decision == "halve" then
		limit = math.floor(batch.count / 2);
		return deliver();
	end
	failed(reason, level or "warn");
	retry(delay or backoff());
end

local quote; -- of JSON, below

-- The request in parts: joined they would be one more large string. A batch's events are lines, of which the last one here
-- loses its comma.
local function request_of(batch, to)
	local segment, userinfo, events = batch.segment, to.userinfo, batch.events;
	local head = ('{"source":%s,"epoch":%s,"first_seq":%d,"events":['):format(
		quote(segment.source), quote(segment.epoch), batch.first);
	local credentials = secret and "Bearer "..secret or userinfo and "Basic "..base64(userinfo);
	local lines = {
		("POST %s%s HTTP/1.1"):format(to.path or "/", to.query and "?"..to.query or "");
		"Host: "..to.authority:gsub("^.*@", "");
		"Connection: close";
		"Content-Type: application/json";
		("Content-Length: %d"):format(#head + batch.bytes);
	};
	if credentials then lines[#lines + 1] = "Authorization: "..credentials; end
	local parts = { concat(lines, "\r\n").."\r\n\r\n"..head };
	for _, text in ipairs(events) do parts[#parts + 1] = text; end
	-- A small last part would wait for what is before it to be acknowledged, where TLS hides the option against that.
	parts[#parts] = parts[#parts]:sub(1, -3).."]}";
	return parts;
end

local function is_trusted(conn, host)
	local socket = conn:socket();
	local certificate = socket:getpeerverification() and socket:getpeercertificate();
	return certificate and verify_identity(host, false, certificate);
end

-- Sends a batch over a connection of its own, and calls answer(status, headers, body), or answer(nil, reason), once.
-- Returns a function that ends this without an answer. net.http would do, but joins headers and body into one more string,
-- which is a third of what sending costs.
local function post(batch, answer)
	local to = parse_url(url);
	local is_tls = to.scheme == "https";
	local parts, conn = request_of(batch, to), nil;
	local function finish(...)
		local call = answer;
		answer = nil;
		if conn then conn:close(); end
		if call then call(...); end
	end
	if is_tls and not http_options.sslctx then return finish(nil, "Prosody has no TLS"); end
	local body; -- pieces of one that ends with the connection; the parser would take the first one for the whole
	local parser = new_parser(function (response)
		if not response.partial then
			finish(response.code, response.headers, body and concat(body) or response.body);
		elseif not response.body_length and not response.chunked then
			body = {};
			response.body_sink = { write = function (_, piece)
				body[#body + 1] = piece;
				return true;
			end };
		end
	end, function (err) finish(nil, err); end, "client");
	local sent = 0;
	local function send_next()
		sent = sent + 1;
		if answer and parts[sent] then conn:write(parts[sent]); end
	end
	local listener = { ondrain = send_next };
	function listener.onconnect(new_conn)
		conn = new_conn;
		if not answer then return conn:close(); end
		if is_tls and not is_trusted(conn, to.host) then return finish(nil, "its certificate is not trusted"); end
		conn:setoption("tcp-nodelay", true); -- the last part is small
		send_next();
	end
	function listener.onincoming(_, data)
		parser:feed(data);
	end
	function listener.ondisconnect(_, err)
		parser:feed(nil); -- an answer may end with the connection
		finish(nil, err or "the connection was closed");
	end
	function listener.onfail(_, err)
		finish(nil, err or "no connection");
	end
	local port = tonumber(to.port) or is_tls and 443 or 80;
	connect(new_resolver(to.host, port, "tcp", { servername = to.host, use_dane = http_options.use_dane }), listener, {
		sslctx = is_tls and http_options.sslctx;
	});
	return function ()
		answer = nil;
		if conn then conn:close(); end
	end
end

function deliver()
	if request or retry_timer then return; end
	local early = not_before - monotonic();
	if early > 0 and waiting < limit and not stopping then
		pace_timer = pace_timer or module:add_timer(early, function ()
			pace_timer = nil;
			deliver();
		end);
		return;
	end
	local batch = next_batch();
	if not batch then return; end
	not_before = batch.count < busy_events and 0 or monotonic() + busy_delay;
	local this = {};
	request = this;
	this.guard = module:add_timer(answer_timeout, function ()
		request = nil;
		this.cancel();
		failed(("no answer within %g s"):format(answer_timeout), "warn");
		retry(backoff());
	end);
	local function ended(status, headers, body)
		request = nil;
		this.guard:stop();
		if status then return answered(batch, status, headers, body); end
		failed(headers, "warn");
		retry(backoff());
	end
	local posted, cancel = pcall(post, batch, ended);
	if posted then
		this.cancel = cancel;
	elseif request == this then
		ended(nil, cancel);
	end
end

---- What happens on the server

local json_escapes = { ['"'] = '\\"', ["\\"] = "\\\\" };
for code = 0, 31 do
	json_escapes[string.char(code)] = ("\\u%04x"):format(code);
end
json_escapes["\127"] = "\\u007f"; -- so that a control character in a file is always damage
local xml_escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ["'"] = "&apos;", ['"'] = "&quot;" };

-- Text that needs no escapes: in JSON; and in XML in JSON. Most text is such, and to ask this way costs a fraction of
-- looking for what does need one: it is a single attempt, and a set is searched from its left.
local json_plain = "^[]-~ #-[!\128-\255]*$";
local plain = "^[]-~ (-;?-[=!#$%%\128-\255]*$";

-- The streams' parser lets nothing else in than UTF-8; what a module made up is no reason to lose a batch.
local function valid(text)
	if is_utf8(text) then return text; end
	return (text:gsub("[\128-\255]+", function (run) return is_utf8(run) and run or "\239\191\189"; end));
end

local function json_escape(text)
	if find(text, json_plain) then return valid(text); end
	return (valid(text):gsub('[%c"\\]', json_escapes));
end

local function xml_in_json(text)
	if find(text, plain) then return valid(text); end
	return (valid(text):gsub("[&<>'\"]", xml_escapes):gsub("[%c\\]", json_escapes));
end

-- A text in both forms.
local function escape(text)
	if not find(text, plain) then return json_escape(text), xml_in_json(text); end
	text = valid(text);
	return text, text;
end

-- Addresses and languages come again and again.
local plain_texts, plain_texts_count = {}, 0;

local function escape_again(text)
	if plain_texts[text] then return text, text; end
	local in_json, in_xml = escape(text);
	if in_xml == text and #text <= 100 then
		if plain_texts_count == 1000 then plain_texts, plain_texts_count = {}, 0; end
		plain_texts[text], plain_texts_count = true, plain_texts_count + 1;
	end
	return in_json, in_xml;
end

function quote(text)
	return '"'..json_escape(text)..'"';
end

-- What adds to the pieces takes and returns how many there are.
local function add_attribute(count, key, value)
	pieces[count + 1], pieces[count + 2], pieces[count + 3], pieces[count + 4] = " ", key, "='", xml_in_json(value);
	pieces[count + 5] = "'";
	return count + 5;
end

-- A stanza as tostring gives it, but at once in a JSON string's escapes.
local function add_stanza(count, stanza, parent_xmlns)
	local name, attr, size = stanza.name, stanza.attr, #stanza;
	pieces[count + 1], pieces[count + 2] = "<", name;
	count = count + 2;
	local prefixes = 0;
	for key, value in next, attr do
		if find(key, "\1", 1, true) then
			local xmlns, local_name = key:match("^([^\1]*)\1(.*)$");
			prefixes = prefixes + 1;
			count = add_attribute(count, "xmlns:ns"..prefixes, xmlns);
			count = add_attribute(count, "ns"..prefixes..":"..local_name, value);
		elseif key ~= "xmlns" or value ~= parent_xmlns then
			count = add_attribute(count, key, value);
		end
	end
	count = count + 1;
	if size == 0 then
		pieces[count] = "/>";
		return count;
	end
	pieces[count] = ">";
	for i = 1, size do
		local child = stanza[i];
		if type(child) == "string" then
			count = count + 1;
			pieces[count] = xml_in_json(child);
		else
			count = add_stanza(count, child, attr.xmlns);
		end
	end
	pieces[count + 1], pieces[count + 2], pieces[count + 3] = "</", name, ">";
	return count + 3;
end

local quoted_host = quote(module.host);

local last_time, last_timestamp = 0, "";

-- The time in seconds, and as events have it.
local function timestamp()
	local seconds = now();
	local time = floor(seconds * 1000);
	if time ~= last_time then last_time, last_timestamp = time, ("%d"):format(time); end
	return seconds, last_timestamp;
end

local function is_full()
	if waiting < queue_max then return false; end
	report_drop();
	return true;
end

-- The ledger keeps to the truth also when the event is dropped, so that no offline comes twice or for nothing.
local function session_changed(jid, present)
	if (ledger[jid] == true) == present then return; end
	local change = (present and "+" or "-")..jid;
	change_ledger(change);
	if is_full() then
		drop(change);
	else
		local time, at = timestamp();
		pieces[piece_count + 1] = ('{"kind":"presence","at":%s,"host":%s,"jid":%s,"present":%s,"sessions":%d},\n'):format(
			at, quoted_host, quote(jid), tostring(present), session_counts[bare(jid)] or 0);
		enqueued(piece_count + 1, time, 0, change);
	end
end

module:hook("presence/initial", function (event)
	session_changed(event.origin.full_jid, true);
end);

-- The session's own broadcast: the client's, or the one that mod_presence makes up when a session ends without it.
module:hook("presence/bare", function (event)
	local origin, stanza = event.origin, event.stanza;
	if origin.type == "c2s" and stanza.attr.to == nil and stanza.attr.type == "unavailable" then
		session_changed(origin.full_jid, false);
	end
end, 10);

-- Whatever kept that broadcast from coming, the session ends here.
module:hook("resource-unbind", function (event)
	session_changed(event.session.full_jid, false);
end, -10);

local event_starts, type_attributes = {}, {};
for _, kind in ipairs { "chat", "groupchat" } do
	event_starts[kind] = ('{"kind":"message","host":%s,"type":"%s","at":'):format(quoted_host, kind);
	type_attributes[kind] = ("' type='%s'><body>"):format(kind);
end
local usual_attributes = { from = true, id = true, to = true, type = true, ["xml:lang"] = true };

-- Whether the message is nothing but a text with the usual attributes.
local function is_simple(stanza, body)
	if stanza[2] or body[2] or type(body[1]) ~= "string" or next(body.attr) then return false; end
	for key in next, stanza.attr do
		if not usual_attributes[key] then return false; end
	end
	return true;
end

local function message_sent(event)
	local origin, stanza = event.origin, event.stanza;
	local attr = stanza.attr;
	local start = event_starts[attr.type];
	if not start or origin.type ~= "c2s" then return; end
	local body = stanza:get_child("body");
	if not body then return; end
	if is_full() then return drop(); end
	local sender, recipient, id, language = origin.full_jid, attr.to, attr.id, attr["xml:lang"];
	local from, from_in_xml = escape_again(sender);
	local to, to_in_xml = escape_again(recipient or bare(sender)); -- Core takes it away when it is the sender's own bare JID
	local simple = recipient and attr.from == sender and is_simple(stanza, body);
	local text, text_in_xml, id_in_xml;
	if simple then
		text, text_in_xml = escape(body[1]);
	else
		text = json_escape(body:get_text() or "");
	end
	local time, at = timestamp();
	local n = piece_count;
	pieces[n + 1], pieces[n + 2], pieces[n + 3], pieces[n + 4] = start, at, ',"from":"', from;
	pieces[n + 5], pieces[n + 6], pieces[n + 7], pieces[n + 8] = '","to":"', to, '","body":"', text;
	n = n + 8;
	if id then
		id, id_in_xml = escape(id);
		pieces[n + 1], pieces[n + 2] = '","stanza_id":"', id;
		n = n + 2;
	end
	if not simple then
		pieces[n + 1] = '","stanza":"';
		n = add_stanza(n + 1, stanza) + 1;
		pieces[n] = '"},\n';
		return enqueued(n, time, #text);
	end
	pieces[n + 1], pieces[n + 2] = '","stanza":"<message from=\'', from_in_xml;
	pieces[n + 3], pieces[n + 4] = "' to='", to_in_xml;
	n = n + 4;
	if id then
		pieces[n + 1], pieces[n + 2] = "' id='", id_in_xml;
		n = n + 2;
	end
	if language then
		local _, language_in_xml = escape_again(language);
		pieces[n + 1], pieces[n + 2] = "' xml:lang='", language_in_xml;
		n = n + 2;
	end
	pieces[n + 1], pieces[n + 2], pieces[n + 3] = type_attributes[attr.type], text_in_xml, '</body></message>"},\n';
	enqueued(n + 3, time, #text);
end
-- After filters and privacy lists have refused what may not be sent, before mod_mam and others mark what is on its way.
module:hook("pre-message/bare", message_sent, 0.5);
module:hook("pre-message/full", message_sent, 0.5);
module:hook("pre-message/host", message_sent, 0.5);

---- Beginning and end

-- Makes the ledger agree with the server: sessions that a kill ended, and whatever happened while the module was unloaded.
local function reconcile()
	local gone = {};
	for jid in pairs(ledger) do
		local session = full_sessions[jid];
		if not session or not session.presence then gone[#gone + 1] = jid; end
	end
	table.sort(gone);
	for _, jid in ipairs(gone) do session_changed(jid, false); end
	for _, user in pairs(hosts[module.host].sessions) do
		for _, session in pairs(user.sessions) do
			if session.presence then session_changed(session.full_jid, true); end
		end
	end
	if #gone > 0 then module:log("info", "%d session(s) ended while the module was not there to see it", #gone); end
end

function module.load()
	load_queue();
	reconcile();
	schedule_flush(flush_interval);
end

-- After mod_c2s has closed its sessions (-100). BOSH sessions are left, and end with the server.
module:hook_global("server-stopping", function ()
	local open = {};
	for jid in pairs(ledger) do open[#open + 1] = jid; end
	table.sort(open);
	for _, jid in ipairs(open) do session_changed(jid, false); end
	flush_all();
	stopping = true;
	deliver();
	if waiting == 0 or failing or not async.ready() then return; end
	-- All virtual hosts together wait no longer than one.
	local shared = module:shared("/*/event_pusher/stopping");
	shared.deadline = shared.deadline or now() + shutdown_wait;
	local wait, done = async.waiter(1, true);
	when_delivered = done;
	module:add_timer(math.max(0, shared.deadline - now()), done);
	wait();
	when_delivered = nil;
end, -200);

module:hook_global("server-stopped", flush_all);

function module.unload()
	flush_all();
	if is_pending() then
		module:log("error", "%d event(s) are lost, the disk did not take them", last_seq - disk_seq);
	end
	if request then request.cancel(); end
	close_reader();
	close_writer();
	if position_file then position_file:close(); end
end

module:hook_global("config-reloaded", function ()
	local ok, err = pcall(read_options);
	if not ok then return module:log("error", "The configuration stays as it was: %s", err); end
	if retry_timer then -- what was waited for may just have been mended
		retry_timer:stop();
		retry_timer = nil;
		deliver();
	end
end);
