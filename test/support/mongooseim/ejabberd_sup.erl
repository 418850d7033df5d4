-module(ejabberd_sup).
-behaviour(supervisor).
%% The API.
-export([start_child/1, stop_child/1]).
%% For tests.
-export([start_link/0, init/1]).

start_child(Spec) ->
    {ok, _} = supervisor:start_child(?MODULE, Spec).

stop_child(Name) ->
    supervisor:terminate_child(?MODULE, Name),
    supervisor:delete_child(?MODULE, Name),
    ok.

start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% More restarts than this take the node down.
init([]) ->
    {ok, {{one_for_one, 10, 1}, []}}.
