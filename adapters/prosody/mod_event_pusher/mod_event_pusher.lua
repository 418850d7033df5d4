-- xmpp-event-pusher's adapter for Prosody 0.12 and later. Load it on each VirtualHost; README.md has the options.
--
-- It watches one virtual host, numbers its users' events, keeps them in a queue on disk and posts them to the daemon.
-- This file has the options, the hooks, start and stop; queue.lib.lua and delivery.lib.lua do the rest.

local async = require "util.async";
local datamanager = require "util.datamanager";
local sha256 = require "util.hashes".sha256;
local pposix = require "util.pposix";
local now = require "util.time".now;
local parse_url = require "socket.url".parse;

local json = module:require "json";
local new_delivery = module:require "delivery";
local new_queue = module:require "queue";
local new_status = module:require "status";
local once_a_minute = module:require "report";

local hosts, full_sessions = prosody.hosts, prosody.full_sessions;

local shutdown_wait = 2; -- seconds to deliver the offline events of a shutdown
local status_interval = 1; -- seconds

assert(module:get_host_type() == "local", "mod_event_pusher belongs on a VirtualHost, not on a component");

---- Options

local settings = {};

local function read_options()
	local url = module:get_option_string("event_pusher_url");
	assert(url and url:match("^https?://") and parse_url(url).host,
		"event_pusher_url must be the http:// or https:// address of the tap");
	settings.url = url;
	settings.secret = module:get_option_string("event_pusher_secret");
	settings.queue_max = module:get_option_number("event_pusher_queue_max", 1000000);
	settings.answer_timeout = module:get_option_number("event_pusher_timeout", 15);
	settings.slow_retry = module:get_option_number("event_pusher_slow_retry", 30);
end
read_options();

---- Parts

local function source_name()
	local name = ("prosody/%s@%s"):format(module.host, pposix.uname().nodename);
	if #name <= 256 then return name; end
	return "prosody/"..sha256(name, true);
end

local count = { sent = module:measure("sent", "counter"), dropped = module:measure("dropped", "counter") };
local measure_waiting = module:measure("waiting", "amount");

local folder = prosody.paths.data.."/"..datamanager.path_encode(module.host).."/event_pusher";
local queue = new_queue(source_name(), folder, settings, count, json);
local delivery = new_delivery(queue, settings, count);
local write_status = new_status(folder, queue, delivery);

module:hook_global("stats-update", function () measure_waiting(queue.waiting()); end);

local report_error = once_a_minute("error", "%d event(s) are lost because of an error: %s");
local report_too_large = once_a_minute("error", "%d event(s) are lost: they are larger than a tap accepts%s");

-- Wraps a hook's function: an error must not stop the stanza.
local function harmless(handler)
	return function (event)
		local ok, err = pcall(handler, event);
		if not ok then report_error(err); end
	end
end

---- Hooks

local function session_changed(jid, present)
	if queue.ledger.has(jid) == present then return; end
	local change = (present and "+" or "-")..jid;
	if queue.is_full() then return queue.drop_as_full(change); end
	local sessions = queue.ledger.count(jid) + (present and 1 or -1);
	json.presence(jid, present, sessions);
	queue.add(change);
end

module:hook("presence/initial", harmless(function (event)
	session_changed(event.origin.full_jid, true);
end));

-- The session's broadcast, from the client or from mod_presence for a session that ends without one. The priority is
-- below mod_firewall, which may drop the stanza, and above mod_presence, which stops it.
module:hook("presence/bare", harmless(function (event)
	local origin, stanza = event.origin, event.stanza;
	if origin.type == "c2s" and stanza.attr.to == nil and stanza.attr.type == "unavailable" then
		session_changed(origin.full_jid, false);
	end
end), 0.05);

-- Ends the session even if that broadcast never came.
module:hook("resource-unbind", harmless(function (event)
	session_changed(event.session.full_jid, false);
end), -10);

local message_sent = harmless(function (event)
	local origin, stanza = event.origin, event.stanza;
	local kind = stanza.attr.type;
	if kind ~= "chat" and kind ~= "groupchat" or origin.type ~= "c2s" then return; end
	local body = stanza:get_child("body");
	if not body then return; end
	if queue.is_full() then return queue.drop_as_full(); end
	local sender = origin.full_jid;
	-- Prosody removes the recipient if it is the sender's own bare JID.
	if json.message(sender, stanza.attr.to or sender:match("^[^/]*"), stanza, body) then return queue.add(); end
	report_too_large();
	queue.drop();
end);

-- Runs after everything that may refuse a message to its sender: block list, privacy list, mod_firewall, any filter. By
-- then mod_mam has removed its mark for the sender's archive.
for _, kind in ipairs { "bare", "full", "host" } do
	module:hook("pre-message/"..kind, message_sent, -math.huge);
end

---- Start and stop

-- Corrects the ledger for sessions that ended in a crash or while the module was not loaded.
local function reconcile()
	local gone = 0;
	for _, jid in ipairs(queue.ledger.sessions()) do
		local session = full_sessions[jid];
		if not session or not session.presence then
			session_changed(jid, false);
			gone = gone + 1;
		end
	end
	for _, user in pairs(hosts[module.host].sessions) do
		for _, session in pairs(user.sessions) do
			if session.presence then session_changed(session.full_jid, true); end
		end
	end
	if gone > 0 then module:log("info", "%d session(s) ended while the module was not loaded", gone); end
end

function module.load()
	queue.load();
	reconcile();
	-- Prosody may not have daemonized yet.
	module:add_timer(0, function ()
		queue.on_written = delivery.deliver;
		delivery.deliver();
	end);
	module:add_timer(status_interval, function ()
		write_status();
		return status_interval;
	end);
end

-- After mod_c2s (-100) has closed its sessions. BOSH sessions remain and end with the server.
module:hook_global("server-stopping", function ()
	for _, jid in ipairs(queue.ledger.sessions()) do session_changed(jid, false); end
	queue.flush_all();
	if not delivery.hurry() or not async.ready() then return; end
	-- All virtual hosts share one deadline.
	local shared = module:shared("/*/event_pusher/stopping");
	shared.deadline = shared.deadline or now() + shutdown_wait;
	local wait, done = async.waiter(1, true);
	delivery.on_idle = done;
	module:add_timer(math.max(0, shared.deadline - now()), done);
	wait();
	delivery.on_idle = nil;
end, -200);

module:hook_global("server-stopped", function ()
	queue.flush_all();
	write_status();
end);

function module.unload()
	local lost = queue.flush_all();
	if lost > 0 then module:log("error", "%d event(s) are lost: the disk did not accept them", lost); end
	delivery.stop();
	write_status();
	queue.close();
end

module:hook_global("config-reloaded", function ()
	local ok, err = pcall(read_options);
	if not ok then return module:log("error", "Keeping the previous configuration: %s", err); end
	delivery.try_again();
end);
