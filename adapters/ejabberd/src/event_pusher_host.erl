%%% What the adapter's process (event_pusher_server) needs of the XMPP server that it runs in: a module with these callbacks,
%%% and arguments.
%%%
%%% That module's hooks call event_pusher_inbox:message/2 for a message and event_pusher_inbox:put/2 with an
%%% event_pusher_sessions:seen() for a session, both with {Server, Host}: the module, and the host of `config()`.
-module(event_pusher_host).

-export_type([config/0, options/0]).

%% `name` is the process's; `dir` is the queue's folder, one for each process; `source` names it to the
%% daemon; `server` is the module with the callbacks.
-type config() :: #{name := atom(), host := binary(), source := binary(), dir := file:filename(), server := module()}.
-type options() :: #{url := binary(), secret := binary(), queue_max := pos_integer(), timeout := pos_integer(),
                     slow_retry := pos_integer()}.

%% The options as they are now.
-callback options(Host :: binary()) -> options().
-callback jid_text(event_pusher_sessions:usr()) -> binary().
%% Whom to trust: `cacertfile` or `cacerts`.
-callback tls_options() -> [ssl:tls_client_option()].
%% The sessions of this node that are available now.
-callback present_sessions(Host :: binary()) -> #{event_pusher_sessions:key() => event_pusher_sessions:usr()}.
%% Whether all sessions of the host end, or only this process.
-callback is_stopping(Host :: binary()) -> boolean().
%% Has the supervisor stop the process; for who uses `leave`.
-callback stop_now(Host :: binary()) -> term().
-optional_callbacks([stop_now/1]).
%% Adds or deletes the hooks, where the server does not do it by itself.
-callback hooks(add | delete, Host :: binary()) -> ok.
%% Starts, linked, what answers {count, Id, [question()]} with {counted, Id, [count()]} to `Owner`, and sends it {claimed,
%% [{usr(), Left}]} for sessions of a node that died; and perhaps {reclaimed, [ref()]} for sessions of this node whose end
%% another one has reported, because it believed this one dead.
-callback start_census(Owner :: pid(), Host :: binary(), Run :: binary()) -> pid().
