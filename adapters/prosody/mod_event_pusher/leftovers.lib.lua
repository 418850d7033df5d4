-- Reads the files that an earlier run left in the queue's folder.

local lfs = require "lfs";

local segment_files = module:require "segment";

local ours = { position = true, status = true, ["status.new"] = true };

-- Returns the paths of the segments in order, and the highest file number. Ignores files of others.
local function find_files(folder)
	local paths, highest = {}, 0;
	if lfs.attributes(folder, "mode") ~= "directory" then return paths, highest; end
	for name in lfs.dir(folder) do
		local number = name:match("^(%d+)%.log$");
		if number then highest = math.max(highest, tonumber(number)); end
		if number and lfs.attributes(folder.."/"..name, "mode") == "file" then
			paths[#paths + 1] = folder.."/"..name;
		elseif not name:match("^%.%.?$") and not ours[name] and not name:match("%.damaged$") then
			module:log("warn", "%s/%s is not a file of the queue; ignoring it", folder, name);
		end
	end
	table.sort(paths);
	return paths, highest;
end

-- Returns the readings (see segment.open) of the files that may have events.
local function open_files(paths)
	local readings = {};
	for i, path in ipairs(paths) do
		local reading, cut_short = segment_files.open(path);
		if not reading then
			module:log("error", "Cannot read a file of the queue, so its events wait for the next start: %s", cut_short);
		elseif cut_short and i == #paths then
			reading.file:close();
			os.remove(path); -- nothing in it was sent
		else
			readings[#readings + 1] = reading;
		end
	end
	return readings;
end

-- Restores the ledger of the end of the last run. Returns the segments, the highest file number, the number of damaged
-- places, and how many lost numbers the daemon has not noticed. Events up to the position `delivered` are delivered.
return function (folder, source, delivered, ledger)
	local paths, highest = find_files(folder);
	local segments, damaged_places, unseen = {}, 0, 0;
	local readings = open_files(paths);
	for i, reading in ipairs(readings) do
		-- After an incomplete write, the next segment repeats the events of that write.
		local following = readings[i + 1];
		local before = following and following.epoch == reading.epoch and following.first or nil;
		if reading.source then ledger.reset(reading.sessions); end
		local parts, damages, still_unseen =
			segment_files.read(reading, source, before, delivered, ledger.change, unseen);
		-- A file without readable events says nothing about losses.
		if #parts > 0 then unseen = still_unseen; end
		for _, part in ipairs(parts) do segments[#segments + 1] = part; end
		damaged_places = damaged_places + damages;
		if #parts == 0 then
			module:log("error", "Damaged queue file kept as %s.damaged", reading.path);
			os.rename(reading.path, reading.path..".damaged");
		elseif damages > 0 then
			module:log("error", "Damaged queue file %s: the events in %d place(s) of it are lost", reading.path, damages);
		end
	end
	return segments, highest, damaged_places, unseen;
end
