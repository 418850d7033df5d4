-- Prints Prosody's configuration for `xmpp-event-pusher adapter`. Run as `prosodyctl mod_event_pusher_probe FILE`, so
-- that Prosody itself evaluates its configuration with includes and Lua code. Never loaded by a server.

local config = require "core.configmanager";
local datamanager = require "util.datamanager";
local json = require "util.json";

local name = "event_pusher";

local function has(list, item)
	if type(list) ~= "table" then return false; end
	for _, one in ipairs(list) do
		if one == item then return true; end
	end
	return false;
end

local function strings(list)
	local found = {};
	if type(list) == "string" then return { list }; end
	for _, one in ipairs(type(list) == "table" and list or {}) do found[#found + 1] = tostring(one); end
	return found;
end

local function text(value)
	return value ~= nil and tostring(value) or nil;
end

local function describe(host)
	local list = config.rawget(host, "modules_enabled");
	local function listed(item)
		return has(config.get("*", "modules_enabled"), item) or has(list, item);
	end
	local enabled = listed(name);
	local disabled = has(config.get("*", "modules_disabled"), name) or has(config.rawget(host, "modules_disabled"), name);
	return {
		name = host;
		own_list = list ~= nil;
		enabled = enabled and not disabled;
		disabled = disabled;
		login = listed("saslauth") or listed("legacyauth");
		url = text(config.get(host, "event_pusher_url"));
		secret = text(config.get(host, "event_pusher_secret"));
		queue = prosody.paths.data.."/"..datamanager.path_encode(host).."/event_pusher";
	};
end

function module.command(arg)
	local ok, _, err = config.load(arg[1]);
	if not ok then
		print(tostring(err));
		return 1;
	end
	local hosts = {};
	for host, options in pairs(config.getconfig()) do
		if host ~= "*" and not rawget(options, "component_module") and rawget(options, "enabled") ~= false then
			hosts[#hosts + 1] = describe(host);
		end
	end
	print("\nprobe: "..json.encode({
		hosts = hosts;
		files = config.files();
		plugin_paths = strings(config.get("*", "plugin_paths"));
		installer = prosody.paths.installer;
		source = prosody.paths.source;
		data = prosody.paths.data;
	}));
	return 0;
end
