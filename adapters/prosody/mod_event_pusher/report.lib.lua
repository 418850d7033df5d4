-- Returns a function that reports one kind of mishap: it logs the first at once, and the others once a minute. The
-- format takes how many there were since the last line, and the latest detail.
return function (level, format)
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
