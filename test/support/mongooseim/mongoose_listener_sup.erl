-module(mongoose_listener_sup).
-behaviour(supervisor).
%% For tests.
-export([start_link/0, init/1, start_listener/0]).

start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    {ok, {{one_for_one, 10, 1}, [#{id => c2s, start => {?MODULE, start_listener, []}}]}}.

start_listener() ->
    {ok, spawn_link(fun() -> receive stop -> ok end end)}.
