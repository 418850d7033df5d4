%%% xmpp-event-pusher's adapter for ejabberd: reports presence, chat and group messages to the daemon, at least once and
%%% in order, by the tap protocol (docs/tap-protocol.md).
%%%
%%% This module has the options, and handles start, upgrade and stop. event_pusher_on_ejabberd and event_pusher_census
%%% are ejabberd's too; the other modules (event_pusher_*) are independent of the server.
-module(mod_event_pusher).
-behaviour(gen_mod).

-export([start/2, stop/1, reload/3, depends/2, mod_options/1, mod_opt_type/1, mod_doc/0, mod_status/0]).
-export([pre_uninstall/0]).

%% How long a stopped module keeps running in case it is being restarted, or upgraded, which takes a compiler run.
-define(RESTART_MS, 2000).
-define(UPGRADE_MS, 30000).

%%%------------------------------------------------------------------------------------------------------- gen_mod

-spec start(binary(), gen_mod:opts()) -> {ok, pid()} | {error, term()}.
start(Host, Opts) ->
    ok = renew(),
    event_pusher_on_ejabberd:start(Host, options(Host, Opts)).

-spec stop(binary()) -> ok | {error, term()}.
stop(Host) ->
    event_pusher_on_ejabberd:stop(Host, ?RESTART_MS).

%% ejabberd calls this for an upgrade too. It removes only this module's code; the other modules run until they are
%% renewed.
-spec pre_uninstall() -> ok.
pre_uninstall() ->
    lists:foreach(fun(Host) -> event_pusher_on_ejabberd:linger(Host, ?UPGRADE_MS) end, ejabberd_option:hosts()).

-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(Host, NewOpts, _OldOpts) ->
    event_pusher_on_ejabberd:reload(Host, options(Host, NewOpts)).

options(Host, Opts) ->
    maps:from_list([{Name, gen_mod:get_opt(Name, Opts)} || {Name, _} <- mod_options(Host)]).

-spec depends(binary(), gen_mod:opts()) -> [].
depends(_Host, _Opts) ->
    [].

-spec mod_opt_type(atom()) -> econf:validator().
mod_opt_type(url) -> econf:url([http, https]);
mod_opt_type(secret) -> econf:binary();
mod_opt_type(queue_max) -> econf:pos_int();
mod_opt_type(timeout) -> econf:timeout(millisecond);
mod_opt_type(slow_retry) -> econf:timeout(millisecond).

-spec mod_options(binary()) -> [{atom(), term()}].
mod_options(_Host) ->
    [{url, <<"http://127.0.0.1:5290/v1/events">>}, {secret, <<>>}, {queue_max, 1000000},
     {timeout, 15000}, {slow_retry, 30000}].

-spec mod_doc() -> map().
mod_doc() ->
    #{desc => <<"Sends events to the daemon xmpp-event-pusher, which publishes to Amazon SNS: who came online or went offline "
                "and which chat and group messages were sent.">>,
      opts =>
          [{url, #{value => "URL", desc => <<"The daemon's HTTP tap.">>}},
           {secret, #{value => "Secret", desc => <<"The tap's secret.">>}},
           {queue_max, #{value => "Number",
                         desc => <<"Events kept on disk while the daemon is away; beyond it the newest are dropped.">>}},
           {timeout, #{value => "timeout()", desc => <<"How long the daemon may take to answer.">>}},
           {slow_retry, #{value => "timeout()",
                          desc => <<"Pause after the daemon refused the secret or the form of a batch.">>}}],
      example => ["modules:", "  mod_event_pusher:", "    url: http://127.0.0.1:5290/v1/events",
                  "    secret: \"the tap's secret\""]}.

-spec mod_status() -> string().
mod_status() ->
    Held = [io_lib:format("~ts: ~B", [Host, max(0, Count)])
            || Host <- ejabberd_option:hosts(), Count <- [event_pusher_on_ejabberd:waiting(Host)], is_integer(Count)],
    lists:flatten(["events not yet delivered: " | lists:join(", ", Held)]).

%%%------------------------------------------------------------------------------------------------ a newer version
%%%
%%% The new code of this module starts while the old processes and hooks still run. If the code of other modules
%%% changed, the processes are stopped, all code is reloaded, and they are started again. The hooks stay; the inbox
%%% keeps their items aside meanwhile (event_pusher_inbox).

renew() ->
    case code:where_is_file("event_pusher_server.beam") of
        non_existing -> ok;
        Path ->
            Files = filelib:wildcard(filename:join(filename:dirname(Path), "event_pusher_*.beam")),
            Modules = [{list_to_atom(filename:basename(File, ".beam")), File} || File <- Files],
            replace([Module || {Module, File} <- Modules, is_another(Module, File)]),
            %% Their files are missing while ejabberd upgrades them.
            lists:foreach(fun({Module, _}) -> {module, Module} = code:ensure_loaded(Module) end, Modules)
    end.

is_another(Module, File) ->
    code:is_loaded(Module) =/= false andalso beam_lib:md5(File) =/= {ok, {Module, Module:module_info(md5)}}.

replace([]) ->
    ok;
replace(Modules) ->
    Hosts = [Host || Host <- ejabberd_option:hosts(), event_pusher_on_ejabberd:stop_for_newer(Host) =:= ok],
    lists:foreach(fun(Module) ->
                          _ = code:purge(Module),
                          {module, Module} = code:load_file(Module)
                  end, Modules),
    _ = spawn(event_pusher_on_ejabberd, forget, [Hosts]),
    ok.
