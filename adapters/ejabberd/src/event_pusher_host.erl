%%% The behaviour that connects the adapter's process (event_pusher_server) to an XMPP server.
%%%
%%% The module's hooks call event_pusher_inbox:message/2 for a message and event_pusher_inbox:put/2 with an
%%% event_pusher_sessions:seen() for a session, both with {Server, Host}: the module, and the host of `config()`.
-module(event_pusher_host).

-export([source/2]).
-export_type([config/0, options/0]).

%% `name`: registered name of the process; `dir`: folder of the queue, one per process; `source`: the daemon's name for
%% it; `server`: the module with the callbacks.
-type config() :: #{name := atom(), host := binary(), source := binary(), dir := file:filename_all(), server := module()}.
-type options() :: #{url := binary(), secret := binary(), queue_max := pos_integer(), timeout := pos_integer(),
                     slow_retry := pos_integer()}.

%% The current options.
-callback options(Host :: binary()) -> options().
-callback jid_text(event_pusher_sessions:usr()) -> binary().
%% The trusted certificates: `cacertfile` or `cacerts`.
-callback tls_options() -> [ssl:tls_client_option()].
%% The available sessions of this node.
-callback present_sessions(Host :: binary()) -> #{event_pusher_sessions:key() => event_pusher_sessions:usr()}.
%% Whether the whole server is stopping, with all sessions, or only this process.
-callback is_stopping(Host :: binary()) -> boolean().
%% Makes the supervisor stop the process. Only needed with `leave`.
-callback stop_now(Host :: binary()) -> term().
-optional_callbacks([stop_now/1]).
%% Adds or deletes the hooks, if the server does not do it by itself.
-callback hooks(add | delete, Host :: binary()) -> ok.
%% Starts and links the census. It answers {count, Id, [question()]} with {counted, Id, [count()]} to `Owner`, and sends
%% {claimed, [{usr(), Left}]} for sessions of a node that died. It may send {reclaimed, [ref()]} for sessions of this
%% node whose end another node reported because it believed this one dead.
-callback start_census(Owner :: pid(), Host :: binary(), Run :: binary()) -> pid().

%% The daemon's name for this node and host, stable over restarts. With the machine's name where the node's has none, as
%% in ejabberd@localhost.
-spec source(Server :: string(), Host :: binary()) -> binary().
source(Server, Host) ->
    [Name, NodeHost] = string:split(atom_to_list(node()), "@"),
    Machine = case NodeHost of
                  Local when Local =:= "localhost"; Local =:= "nohost" ->
                      {ok, Hostname} = inet:gethostname(),
                      Hostname;
                  Named -> Named
              end,
    Source = unicode:characters_to_binary([Server, $/, Host, $/, Name, $@, Machine]),
    case string:length(Source) =< 256 of
        true -> Source;
        false -> unicode:characters_to_binary([Server, $/, integer_to_binary(erlang:phash2(Source), 16)])
    end.
