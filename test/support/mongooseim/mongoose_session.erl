-module(mongoose_session).
%% The API.
-export([get_info/1]).

get_info({session, _, _, _, _, Info}) -> Info.
