-- Returns a function that logs one kind of problem: the first one at once, the following ones summed up once a minute.
-- The format takes the number since the last line and the latest detail.

-- An option for tests only.
local period = module:get_option_number("event_pusher_log_period", 60); -- seconds

return function (level, format)
	local count, timer, last = 0, nil, "";

	local function report()
		timer = nil;
		if count == 0 then return; end
		module:log(level, format, count, last);
		count = 0;
		timer = module:add_timer(period, report);
	end

	return function (detail)
		count, last = count + 1, detail or "";
		if not timer then report(); end
	end
end
