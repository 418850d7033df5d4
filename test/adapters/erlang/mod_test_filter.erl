%% A third-party module that refuses messages by their text, in each hook where ejabberd allows it before routing what
%% its own user sends.
-module(mod_test_filter).
-behaviour(gen_mod).

-export([start/2, stop/1, depends/2, mod_options/1, mod_doc/0]).
-export([user_send_packet/1, privacy_check_packet/4, filter_packet/1]).

start(Host, _) ->
    ejabberd_hooks:add(user_send_packet, Host, ?MODULE, user_send_packet, 95),
    ejabberd_hooks:add(privacy_check_packet, Host, ?MODULE, privacy_check_packet, 95),
    ejabberd_hooks:add(filter_packet, ?MODULE, filter_packet, 95).

stop(Host) ->
    ejabberd_hooks:delete(user_send_packet, Host, ?MODULE, user_send_packet, 95),
    ejabberd_hooks:delete(privacy_check_packet, Host, ?MODULE, privacy_check_packet, 95),
    ejabberd_hooks:delete(filter_packet, ?MODULE, filter_packet, 95).

depends(_, _) -> [].
mod_options(_) -> [].
mod_doc() -> #{}.

user_send_packet({Packet, State} = Acc) ->
    case text(Packet) of
        <<"dropped when sent">> -> {stop, {drop, State}};
        _ -> Acc
    end.

privacy_check_packet(Acc, _, Packet, out) ->
    case text(Packet) of
        <<"denied">> -> {stop, deny};
        _ -> Acc
    end;
privacy_check_packet(Acc, _, _, in) ->
    Acc.

filter_packet(drop) -> drop;
filter_packet(Packet) ->
    case text(Packet) of
        <<"dropped when routed">> -> drop;
        _ -> Packet
    end.

text(Packet) when element(1, Packet) =:= message ->
    fxml:get_path_s(xmpp:encode(Packet), [{elem, <<"body">>}, cdata]);
text(_) ->
    <<>>.
