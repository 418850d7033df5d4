-- The adapter for Prosody sums up a recurring problem once a minute by default. Arguments: report.lib.lua.
local lines, timers = {}, {};
module = {}; -- luacheck: ignore 111
function module:get_option_number(_, default) return default; end
function module:log(_, format, ...) lines[#lines + 1] = format:format(...); end
function module:add_timer(seconds, callback)
	timers[#timers + 1] = { seconds = seconds, callback = callback };
	return callback;
end

local report = dofile(arg[1])("error", "%d lost: %s");
report("first");
report("second");
report("third");
assert(#lines == 1 and lines[1] == "1 lost: first", "the first one at once, and nothing else");
assert(#timers == 1 and timers[1].seconds == 60, "the next line in 60 s");
timers[1].callback();
assert(#lines == 2 and lines[2] == "2 lost: third", "the others summed up");
assert(#timers == 2 and timers[2].seconds == 60);
timers[2].callback();
assert(#lines == 2 and #timers == 2, "no line while nothing happens");
report("fourth");
assert(lines[3] == "1 lost: fourth", "at once again after a quiet minute");
print("passed");
