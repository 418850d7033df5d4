-- The file `status` in the queue's folder, one line of JSON for `xmpp-event-pusher adapter status`, which runs beside
-- the server and can ask nothing else.

local json_encode = require "util.json".encode;

-- Returns a function that writes the file, where it would be another one than the last. If it can't, no harm is done.
return function (folder, queue, delivery)
	local path, written = folder.."/status", nil;
	return function ()
		local contact, problem = delivery.report();
		local fields = { ('"waiting":%d'):format(queue.waiting()) };
		if contact then fields[#fields + 1] = ('"contact":%d'):format(contact); end
		if problem then fields[#fields + 1] = '"problem":'..json_encode(problem); end
		local text = "{"..table.concat(fields, ",").."}\n";
		if text == written then return; end
		local file = io.open(path..".new", "wb");
		if not file then return; end
		local wrote = file:write(text);
		if file:close() and wrote and os.rename(path..".new", path) then written = text; end
	end
end
