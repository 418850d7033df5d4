-- Delivers the queue to the tap, one batch at a time.
--
-- Invariants:
--  - Only the daemon's own answer removes a batch from the queue: it accepted the batch, or it called a single event
--    too large. Any other answer, from a proxy for example, delays the batch but loses nothing.
--  - Duplicates are expected among numbers that may have been sent before. Duplicates among numbers that were never
--    sent mean that another run used this epoch, as after restoring a virtual machine's snapshot. Those events are sent
--    under a new epoch.

local json_decode = require "util.json".decode;
local monotonic, now = require "util.time".monotonic, require "util.time".now;

local once_a_minute = module:require "report";
local post = module:require "post";

local batch_events = 1000;
local gather_each, gather_max = 0.001, 0.1; -- seconds per event of the last batch, to gather the next
local backoff_first, backoff_max = 0.25, 5;
local retry_after_max = 300;

local function is_count(value, max)
	return type(value) == "number" and value >= 0 and value <= max and value % 1 == 0;
end

-- Returns the daemon's answer { accepted, duplicates, rejected } to a batch of this size; nil for anything else.
local function receipt_of(answer, events)
	local rejected = answer.rejected;
	if not is_count(answer.accepted, events) or not is_count(answer.duplicates, events) then return; end
	if type(rejected) ~= "table" or answer.accepted + answer.duplicates + #rejected ~= events then return; end
	for _, refusal in ipairs(rejected) do
		if type(refusal) ~= "table" or not is_count(refusal.index, events - 1) then return; end
	end
	return answer;
end

-- Returns the daemon's error { code, message }, or nil.
local function error_of(answer)
	local err = answer.error;
	return type(err) == "table" and type(err.code) == "string" and err or nil;
end

-- Decides what an answer means: "taken", "halve" the batch, "too_large" for its only event, or "keep". "keep" comes
-- with the reason, the delay in seconds (false: exponential backoff) and the log level.
local function verdict(result, answer, batch, slow_retry)
	local status, err = result.status, error_of(answer);
	if status == 200 then
		if receipt_of(answer, batch.count) then return "taken"; end
		return "keep", "status 200, but not the daemon's answer", slow_retry, "error";
	elseif status == 413 and batch.count > 1 then
		return "halve";
	elseif status == 413 and err and err.code == "too_large" then
		return "too_large";
	elseif status == 400 or status == 401 or status == 403 or status == 413 then
		local message = err and " "..tostring(err.message):sub(1, 200) or "";
		return "keep", ("status %d%s"):format(status, message), slow_retry, "error";
	elseif status == 503 then
		local seconds = tonumber(result.headers["retry-after"]);
		return "keep", "status 503", seconds and math.min(math.max(seconds, backoff_first), retry_after_max), "warn";
	end
	return "keep", ("status %d"):format(status), false, "warn";
end

-- Returns the delivery of a queue. settings: url, secret, answer_timeout, slow_retry. Calls count.sent(n) for delivered
-- events.
return function (queue, settings, count)
	local report_too_large = once_a_minute("error",
		"%d event(s) are lost: the daemon refused them as too large; the last is %s");

	local request; -- the open request: { guard, cancel }
	local retry_timer;
	local not_before, pace_timer = 0, nil; -- earliest time for a batch that is not full
	local limit, failures, failing = batch_events, 0, nil;
	local doubtful_epoch, doubtful_seq = nil, 0; -- the daemon may have events up to here unconfirmed
	local taken_epoch, lost_since = nil, 0; -- of the last event that the daemon took; how many are lost since
	local again; -- { left, taken }: the daemon lacks the next `left` events and has the `taken` events after them
	local stopping = false;
	local contact; -- when the daemon last took a batch, in milliseconds since the Unix epoch

	-- delivery.on_idle, if set, is called when the queue is empty or delivery fails.
	local delivery = {};
	local deliver;

	local function shown_url()
		return (settings.url:gsub("//[^/@]*@", "//"));
	end

	local function retry(delay)
		retry_timer = module:add_timer(delay, function ()
			retry_timer = nil;
			deliver();
		end);
	end

	local function backoff()
		local delay = math.min(backoff_max, backoff_first * 2 ^ math.min(failures - 1, 10));
		return delay * (0.75 + math.random() / 2);
	end

	-- Logs when a failure begins, not each attempt; logs again if it turns into one that needs an operator.
	local function failed(reason, delay, level)
		failures = failures + 1;
		if not failing or (level == "error" and failing ~= reason) then
			module:log(level, "Cannot deliver to %s: %s; %d event(s) wait", shown_url(), reason, queue.waiting());
			failing = reason;
		end
		if delivery.on_idle then delivery.on_idle(); end
		retry(delay or backoff());
	end

	local function works_again(batch)
		if failing then
			module:log("info", "Delivery to %s works again; %d event(s) wait", shown_url(), queue.waiting() - batch.count);
		end
		failing, failures = nil, 0;
	end

	local function log_rejected(batch, rejected)
		for _, refusal in ipairs(rejected) do
			local reason = tostring(refusal.reason):sub(1, 200);
			module:log("warn", "The daemon refused event %s/%d: %s", batch.segment.epoch, batch.first + refusal.index, reason);
		end
	end

	-- Returns how many events of a batch the daemon may already have. All of an earlier run's may have been sent.
	local function known(batch)
		if batch.segment.epoch ~= queue.epoch() then return batch.count; end
		if batch.segment.epoch ~= doubtful_epoch then return 0; end
		return math.max(0, math.min(batch.count, doubtful_seq - batch.first + 1));
	end

	-- Removes the next events without sending them, because the daemon has them.
	local function skip(events)
		while events > 0 do
			local batch = queue.next_batch(events);
			if not batch then return; end
			count.sent(batch.count);
			queue.forget(batch);
			events = events - batch.count;
		end
	end

	local function done(batch)
		if not again then return; end
		again.left = again.left - batch.count;
		if again.left > 0 then return; end
		if again.taken > 0 then
			skip(again.taken);
			queue.begin_epoch();
		end
		again = nil;
	end

	-- Handles duplicates among numbers that were never sent.
	local function send_again(batch, duplicates)
		module:log("error", "The daemon has events from %s/%d on that this server never sent: was a backup or "
			.."snapshot restored? Sending the events with these numbers again under a new epoch",
			batch.segment.epoch, batch.first);
		local known_events = known(batch);
		skip(known_events);
		queue.begin_epoch();
		again = { left = duplicates - known_events, taken = batch.count - duplicates };
		failures = failures + 1;
		retry(backoff());
	end

	local function taken(batch, receipt)
		if receipt.duplicates > known(batch) then return send_again(batch, receipt.duplicates); end
		works_again(batch);
		contact = math.floor(now() * 1000);
		limit = math.min(batch_events, limit * 2);
		log_rejected(batch, receipt.rejected);
		count.sent(batch.count);
		taken_epoch, lost_since = batch.segment.epoch, 0;
		queue.forget(batch);
		done(batch);
		if queue.waiting() == 0 and delivery.on_idle then delivery.on_idle(); end
		deliver();
	end

	-- Whether the daemon has an earlier number of the batch's epoch.
	local function is_known(batch)
		local epoch = batch.segment.epoch;
		return epoch == taken_epoch or epoch ~= queue.epoch() and batch.first > 1;
	end

	local function answered(batch, result)
		local decoded, answer = pcall(json_decode, result.body or "");
		if not decoded or type(answer) ~= "table" then answer = {}; end
		local own = result.status == 200 and receipt_of(answer, batch.count) or error_of(answer);
		if not own and (result.status or result.sent) then
			doubtful_epoch, doubtful_seq = batch.segment.epoch, batch.first + batch.count - 1;
		end
		if result.problem then
			return failed(result.problem, result.odd and settings.slow_retry, result.odd and "error" or "warn");
		end
		local decision, reason, delay, level = verdict(result, answer, batch, settings.slow_retry);
		if decision == "taken" then
			taken(batch, answer);
		elseif decision == "halve" then
			limit = math.floor(batch.count / 2);
			deliver();
		elseif decision == "too_large" then
			works_again(batch);
			report_too_large(("%s/%d"):format(batch.segment.epoch, batch.first));
			count.dropped(1);
			lost_since = lost_since + 1;
			if not queue.lose(batch, is_known(batch), lost_since) then lost_since = 0; end
			done(batch);
			deliver();
		else
			failed(reason, delay, level);
		end
	end

	local function send(batch)
		local this = {};
		request = this;
		this.guard = module:add_timer(settings.answer_timeout, function ()
			request = nil;
			local sent = this.cancel();
			answered(batch, { problem = ("no answer within %g s"):format(settings.answer_timeout), sent = sent });
		end);
		local function ended(result)
			request = nil;
			this.guard:stop();
			answered(batch, result);
		end
		local posted, cancel = pcall(post, batch, settings.url, settings.secret, ended);
		if posted then
			this.cancel = cancel;
		elseif request == this then
			ended({ problem = cancel });
		end
	end

	-- Sends the next batch if allowed.
	function deliver()
		if request or retry_timer then return; end
		local early = not_before - monotonic();
		if early > 0 and queue.waiting() < limit and not stopping then
			pace_timer = pace_timer or module:add_timer(early, function ()
				pace_timer = nil;
				deliver();
			end);
			return;
		end
		local batch, unreadable = queue.next_batch(again and math.min(limit, again.left) or limit);
		if unreadable then return retry(backoff_max); end
		if not batch then return; end
		not_before = monotonic() + math.min(gather_max, gather_each * batch.count);
		send(batch);
	end
	delivery.deliver = deliver;

	-- Retries at once: the cause may just have been fixed.
	function delivery.try_again()
		if not retry_timer then return; end
		retry_timer:stop();
		retry_timer = nil;
		deliver();
	end

	-- From now on delivers without waiting for full batches. Returns whether a delivery is in progress.
	function delivery.hurry()
		stopping = true;
		deliver();
		return queue.waiting() > 0 and not failing;
	end

	-- Returns when the daemon last took a batch, if ever, and the current problem.
	function delivery.report()
		return contact, failing;
	end

	-- Aborts the open request, if any.
	function delivery.stop()
		if request then request.cancel(); end
	end

	return delivery;
end
