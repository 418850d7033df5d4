-module(ejabberd_sm).
%% The API.
-export([get_full_session_list/0]).
%% For tests.
-export([open/3, close/1]).

%% {session, Sid, USR, US, Priority, Info}: the priority is 0 from the bind on, whatever the presence.
get_full_session_list() ->
    ets:tab2list(standin_sessions).

open(Sid, {User, Server, _} = USR, Info) ->
    true = ets:insert(standin_sessions, {session, Sid, USR, {User, Server}, 0, Info}).

close(Sid) ->
    true = ets:delete(standin_sessions, Sid).
