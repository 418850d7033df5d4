-- The queue of events on the server's disk: numbers events, writes them and returns them in batches.
--
-- Invariants:
--  - An epoch is one run of the adapter, with numbers from 1. Events of an earlier run are delivered first, under their
--    own epoch and numbers.
--  - An event is delivered only after its line was written to a file, so a number never stands for two events, not even
--    after a crash.
--  - The ledger is derived from the lines of the events: after a crash both the event and its change exist, or neither.
--  - Each segment begins with a copy of the ledger. So a segment is deleted once all its events are delivered, and the
--    newest one, which always stays, knows the open sessions.
--  - The daemon notices a hole when a later number of the same epoch arrives; the first number of an epoch is never a
--    hole. So numbers lost at the end of a run or before its first event are skipped after the first event of this or
--    the next run. Until then the files count them as unseen.
--  - An idle queue writes an event at once. After a write, the next events gather briefly, longer the more were
--    written.

local lfs = require "lfs";
local new_id = require "util.id".medium;
local monotonic = require "util.time".monotonic;

local new_fresh = module:require "fresh";
local new_ledger = module:require "ledger";
local new_position = module:require "position";
local new_reader = module:require "reader";
local read_leftovers = module:require "leftovers";
local once_a_minute = module:require "report";
local segment_files = module:require "segment";

local gather_each, gather_max = 0.001, 0.045; -- seconds to gather for each event of the last write
local timer_delay = 0.005; -- seconds a timer may be late; a deadline closer than that is not left to the timer
local unit_bytes = 16 * 1024; -- of events joined into one string
local group_bytes = 1024 * 1024; -- written at once; bounds how long a backlog after a full disk blocks the server
local disk_retry = 1; -- seconds
local segment_bytes = 4 * 1024 * 1024;

-- Opens the queue in a folder; events are added through `json`. settings.queue_max limits the waiting events. Calls
-- count.dropped(n) for lost events.
return function (source, folder, settings, count, json)
	local report_drop = once_a_minute("error", "The queue is full (event_pusher_queue_max): %d event(s) dropped%s");
	local report_disk = once_a_minute("error", "Cannot write to the queue (%d attempt(s)), events wait in memory: %s");
	local report_unreadable = once_a_minute("error", "Cannot read the queue (%d attempt(s)), events wait: %s");
	local report_lost = once_a_minute("error",
		"A file of the queue is missing or truncated, its events are lost (%d time(s)): %s");

	local epoch = new_id();
	local last_seq, disk_seq = 0, 0; -- of this epoch: the last number assigned, and the last one on disk
	local begun = false; -- whether this epoch has an event
	local unseen, unseen_on_disk = 0, 0; -- lost numbers that the daemon has not noticed: before the first event; on disk
	local segments = {}; -- in order; fields: see segment.read
	local writer; -- { file, limit } of the last segment, if this run began it
	local file_number = 0;
	-- Units not yet on disk, oldest first: { text, numbers, events }. A unit without text stands for dropped events. Those
	-- before the epoch's first event use up no numbers; the unit counts them as unseen.
	local pending, pending_first, pending_last = {}, 1, 0;
	local changes = {}; -- to the ledger by the pending units: { seq, change }
	local waiting = 0; -- undelivered events
	local fresh = new_fresh();
	local position = new_position(folder.."/position");
	local reader = new_reader();
	local flush_timer, flush_due; -- flush_due: when the timer has to fire
	local gather_until = 0;
	local write_bytes = group_bytes;

	-- queue.on_written is called when new events may be on disk.
	local queue = { ledger = new_ledger(), on_written = function () end };
	local ledger = queue.ledger;

	---- Writing

	local function close_writer()
		if writer then writer.file:close(); end
		writer = nil;
	end

	-- Deletes files without undelivered events, except the last, which knows the open sessions. A file with several parts
	-- stays until none of them is needed.
	local function delete_done()
		local needed, keep = {}, {};
		for i, segment in ipairs(segments) do
			if segment.count > 0 or i == #segments then needed[segment.path] = true; end
		end
		for _, segment in ipairs(segments) do
			if needed[segment.path] then
				keep[#keep + 1] = segment;
			else
				os.remove(segment.path);
			end
		end
		segments = keep;
	end

	local function begin_segment()
		local not_on_disk = {};
		for _, entry in ipairs(changes) do not_on_disk[#not_on_disk + 1] = entry.change; end
		lfs.mkdir((folder:gsub("/[^/]*$", "")));
		lfs.mkdir(folder);
		local path, first = ("%s/%012d.log"):format(folder, file_number + 1), disk_seq + 1;
		local sessions = ledger.sessions_before(not_on_disk);
		local file, head = segment_files.create(path, source, epoch, first, sessions, unseen_on_disk);
		if not file then return nil, head; end
		file_number = file_number + 1;
		writer = { file = file, limit = math.max(segment_bytes, 4 * head) };
		segments[#segments + 1] = {
			path = path, source = source, epoch = epoch, first = first, last = disk_seq,
			head = head, head_seq = first, size = head, count = 0;
		};
		return true;
	end

	-- Appends to the last segment. A failed write may leave part of the text in the file, so the next attempt begins a new
	-- segment; a file that this attempt began is deleted at once to free its space.
	local function append(units)
		local last = segments[#segments];
		-- Writes to a file that somebody deleted or truncated would be lost.
		if writer and (last.size >= writer.limit or lfs.attributes(last.path, "size") ~= last.size) then close_writer(); end
		local begin = not writer;
		if begin then
			local ok, err = begin_segment();
			if not ok then return nil, err; end
		end
		local ok, err;
		for _, unit in ipairs(units) do
			ok, err = writer.file:write(unit.text);
			if not ok then break; end
		end
		if ok then ok, err = writer.file:flush(); end
		if not ok then
			close_writer();
			if begin then os.remove(table.remove(segments).path); end
			return nil, err;
		end
		if begin then delete_done(); end
		return true;
	end

	local function push(unit)
		pending_last = pending_last + 1;
		pending[pending_last] = unit;
	end

	-- Makes a pending unit of the events collected in json.
	local function join()
		if json.bytes() == 0 then return; end
		local text, events = json.join();
		push({ text = text, numbers = events, events = events });
	end

	local function is_pending()
		return pending_first <= pending_last or json.bytes() > 0;
	end

	-- Returns the first pending units, as many as are written at once.
	local function next_group()
		join();
		local group = { units = {}, bytes = 0, next = pending_first };
		while pending[group.next] and group.bytes < write_bytes do
			local unit = pending[group.next];
			unit.text = unit.text or segment_files.dropped(unit);
			group.units[#group.units + 1], group.bytes = unit, group.bytes + #unit.text;
			group.next = group.next + 1;
		end
		return group;
	end

	local function forget_pending(group)
		if not pending[group.next] then
			pending, pending_first, pending_last, changes = {}, 1, 0, {};
			return;
		end
		for i = pending_first, group.next - 1 do pending[i] = nil; end
		pending_first = group.next;
		local left = {};
		for _, entry in ipairs(changes) do
			if entry.seq > disk_seq then left[#left + 1] = entry; end
		end
		changes = left;
	end

	local function write_pending()
		local group = next_group();
		local ok, err = append(group.units);
		if not ok then
			report_disk(err);
			write_bytes = group_bytes / 16; -- a smaller write may fit
			return false;
		end
		write_bytes = math.min(group_bytes, write_bytes * 2);
		local segment, before = segments[#segments], disk_seq;
		for _, unit in ipairs(group.units) do
			segment.size = segment.size + #unit.text;
			fresh.keep(segment, disk_seq + 1, unit);
			disk_seq, segment.count = disk_seq + unit.numbers, segment.count + unit.events;
			unseen_on_disk = unit.unseen or unit.events == 0 and unseen_on_disk + unit.numbers or 0;
		end
		segment.last, gather_until = disk_seq, monotonic() + math.min(gather_max, gather_each * (disk_seq - before));
		forget_pending(group);
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
		queue.on_written();
	end

	function schedule_flush(delay)
		flush_due = monotonic() + delay + timer_delay;
		flush_timer = module:add_timer(delay, function ()
			flush_timer = nil;
			flush();
		end);
	end

	-- Prosody runs no timer while any connection is readable, so a server at its limit writes here.
	local function flush_soon()
		local time = monotonic();
		if flush_timer then
			if time > flush_due then flush(); end
		elseif time >= gather_until then
			flush();
		else
			schedule_flush(gather_until - time);
		end
	end

	-- Writes all pending units as far as the disk accepts them. Returns how many numbers are left.
	function queue.flush_all()
		while is_pending() do
			if not write_pending() then break; end
		end
		return last_seq - disk_seq;
	end

	---- Adding

	function queue.is_full()
		return waiting >= settings.queue_max;
	end

	local function change_ledger(change)
		changes[#changes + 1] = { seq = last_seq, change = change };
		ledger.change(change);
	end

	-- Adds the event that was just put into json, with its change to the ledger, if any.
	function queue.add(change)
		last_seq, waiting = last_seq + 1, waiting + 1;
		if change then change_ledger(change); end
		if json.bytes() > unit_bytes then join(); end
		if not begun and unseen > 0 then
			join();
			push({ numbers = unseen, events = 0 });
			last_seq = last_seq + unseen;
		end
		begun = true;
		flush_soon();
	end

	-- Uses up the number of an event that can't be kept. The ledger still changes, so that no offline event is repeated or
	-- sent without an online event.
	function queue.drop(change)
		local numbers = begun and 1 or 0;
		last_seq = last_seq + numbers;
		if not begun then unseen = unseen + 1; end
		count.dropped(1);
		join();
		local last = pending[pending_last];
		-- A run of dropped messages is one line, whatever its length.
		if not last or last.text or last.change or change then
			last = { numbers = 0, events = 0, change = change };
			push(last);
			if change then change_ledger(change); end
		end
		last.numbers = last.numbers + numbers;
		last.unseen = not begun and unseen or nil;
		flush_soon();
	end

	-- Drops an event because the queue is full.
	function queue.drop_as_full(change)
		report_drop();
		queue.drop(change);
	end

	---- Reading

	-- Gives up the segment's events. Their numbers are missing, which makes the loss visible.
	local function give_up(segment)
		report_lost(segment.path);
		count.dropped(segment.count);
		waiting = waiting - segment.count;
		segment.count, segment.head, segment.head_seq = 0, segment.size, segment.last + 1;
		reader.close();
		if segment == segments[#segments] then close_writer(); end
		delete_done();
	end

	-- Returns the next batch of at most `limit` events: { segment = { source, epoch }, first, count, bytes, parts }.
	-- Returns nil if no event is on disk, and nil and true if the disk can't be read now.
	function queue.next_batch(limit)
		for _, segment in ipairs(segments) do
			if segment.count > 0 then
				local batch, err = fresh.batch(segment, limit), nil;
				if not batch then batch, err = reader.read(segment, math.min(limit, fresh.events_before(segment))); end
				if batch then return batch; end
				reader.close();
				-- A file of full length may become readable: the server may be out of file descriptors now.
				if err and (lfs.attributes(segment.path, "size") or 0) >= segment.size then
					report_unreadable(err);
					return nil, true;
				end
				give_up(segment);
				return queue.next_batch(limit);
			end
		end
	end

	-- Removes a batch that was delivered or given up.
	function queue.forget(batch)
		local segment, events = batch.segment, batch.count;
		segment.head, segment.head_seq = segment.head + batch.bytes, segment.head_seq + events;
		segment.count, waiting = segment.count - events, waiting - events;
		position.write(segment);
		if segment.count == 0 then
			delete_done();
			if segment ~= segments[#segments] then reader.close(); end
		end
	end

	-- The daemon can't take the batch's only event. It notices if it knows an earlier number of the epoch and gets a later
	-- one; returns whether it will. If not, the numbers lost since the last taken event are skipped after the next one.
	function queue.lose(batch, is_known, lost)
		local lost_epoch = batch.segment.epoch;
		local is_followed = lost_epoch == epoch and last_seq > batch.first;
		queue.forget(batch);
		for _, other in ipairs(segments) do is_followed = is_followed or other.epoch == lost_epoch and other.count > 0; end
		if is_known and is_followed then return true; end
		if not is_known or lost_epoch ~= epoch then
			unseen, begun = begun and lost_epoch ~= epoch and lost or unseen + lost, false;
		end
		join();
		push({ numbers = 0, events = 0, unseen = begun and lost or unseen });
		flush_soon();
	end

	-- Moves this run's undelivered events to a new epoch, numbered from 1.
	function queue.begin_epoch()
		local old, shift = epoch, nil;
		epoch = new_id();
		for _, segment in ipairs(segments) do
			if segment.epoch == old then
				shift = shift or segment.head_seq - 1;
				segment.epoch, segment.first, segment.last = epoch, segment.first - shift, segment.last - shift;
				segment.head_seq = segment.head_seq - shift;
				local ok, err = segment_files.renumber(segment.path, source, epoch, segment.first);
				if not ok then module:log("error", "Cannot write the new epoch to %s: %s", segment.path, err); end
			end
		end
		fresh.clear();
		last_seq, disk_seq = last_seq - (shift or 0), disk_seq - (shift or 0);
		for _, entry in ipairs(changes) do entry.seq = entry.seq - (shift or 0); end
	end

	function queue.epoch()
		return epoch;
	end

	function queue.waiting()
		return waiting;
	end

	---- Start and stop

	-- Reads the files of an earlier run.
	function queue.load()
		local damages;
		segments, file_number, damages, unseen = read_leftovers(folder, source, position.read(), ledger);
		unseen_on_disk = unseen;
		for _, segment in ipairs(segments) do waiting = waiting + segment.count; end
		count.dropped(damages);
		delete_done();
		if waiting > 0 then module:log("info", "%d event(s) from an earlier run wait for delivery", waiting); end
	end

	-- Closes all files. The queue can't be used afterwards.
	function queue.close()
		if flush_timer then flush_timer:stop(); end
		reader.close();
		close_writer();
		position.close();
	end

	return queue;
end
