-- Reads the files that an earlier run left in the queue's folder.

local lfs = require "lfs";

local segment_files = module:require "segment";

local ours = { position = true, status = true, ["status.new"] = true };

-- The segments' files in order, and the highest number of one. What is not the queue's is left alone.
local function find_files(folder)
	local paths, highest = {}, 0;
	if lfs.attributes(folder, "mode") ~= "directory" then return paths, highest; end
	for name in lfs.dir(folder) do
		local number = name:match("^(%d+)%.log$");
		if number then highest = math.max(highest, tonumber(number)); end
		if number and lfs.attributes(folder.."/"..name, "mode") == "file" then
			paths[#paths + 1] = folder.."/"..name;
		elseif not name:match("^%.%.?$") and not ours[name] and not name:match("%.damaged$") then
			module:log("warn", "%s/%s is not a file of the queue, and left alone", folder, name);
		end
	end
	table.sort(paths);
	return paths, highest;
end

-- Opens the files. Returns what segment.open says of those that may have events.
local function open_files(paths)
	local readings = {};
	for i, path in ipairs(paths) do
		local reading, cut_short = segment_files.open(path);
		if not reading then
			module:log("error", "Cannot read a file of the queue, so its events wait for another start: %s", cut_short);
		elseif cut_short and i == #paths then
			reading.file:close();
			os.remove(path); -- nothing in it was ever sent
		else
			readings[#readings + 1] = reading;
		end
	end
	return readings;
end

-- Makes the ledger what it was at the end of the last run. Returns the segments, the highest number of a file, in how
-- many places they are damaged, and how many lost numbers the daemon has not seen. Those up to the position `delivered`
-- are delivered.
return function (folder, source, delivered, ledger)
	local paths, highest = find_files(folder);
	local segments, damaged_places, unseen = {}, 0, 0;
	local readings = open_files(paths);
	for i, reading in ipairs(readings) do
		-- After a write that failed half-way, the next segment begins with what was to be written.
		local following = readings[i + 1];
		local before = following and following.epoch == reading.epoch and following.first or nil;
		if reading.source then ledger.reset(reading.sessions); end
		local parts, damages, still_unseen =
			segment_files.read(reading, source, before, delivered, ledger.change, unseen);
		-- A file without anything of ours says nothing of losses.
		if #parts > 0 then unseen = still_unseen; end
		for _, part in ipairs(parts) do segments[#segments + 1] = part; end
		damaged_places = damaged_places + damages;
		if #parts == 0 then
			module:log("error", "Damaged queue file kept as %s.damaged", reading.path);
			os.rename(reading.path, reading.path..".damaged");
		elseif damages > 0 then
			module:log("error", "Damaged queue file %s: what was in %d place(s) of it is lost", reading.path, damages);
		end
	end
	return segments, highest, damaged_places, unseen;
end
