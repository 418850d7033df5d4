-module(jid).
%% The API.
-export([make/3, to_lower/1, to_bare/1, to_binary/1, lserver/1]).
%% For tests.
-export([from_binary/1]).

make(User, Server, Resource) -> {jid, lower(User), lower(Server), Resource}.

to_lower({jid, User, Server, Resource}) -> {User, Server, Resource}.

to_bare({jid, User, Server, _}) -> {jid, User, Server, <<>>}.

lserver({jid, _, Server, _}) -> Server.

to_binary({jid, User, Server, Resource}) -> to_binary({User, Server, Resource});
to_binary({<<>>, Server, Resource}) -> with_resource(Server, Resource);
to_binary({User, Server, Resource}) -> with_resource(<<User/binary, $@, Server/binary>>, Resource).

with_resource(Bare, <<>>) -> Bare;
with_resource(Bare, Resource) -> <<Bare/binary, $/, Resource/binary>>.

from_binary(Text) ->
    {Bare, Resource} = case binary:split(Text, <<"/">>) of
                           [B, R] -> {B, R};
                           [B] -> {B, <<>>}
                       end,
    case binary:split(Bare, <<"@">>) of
        [User, Server] -> make(User, Server, Resource);
        [Server] -> make(<<>>, Server, Resource)
    end.

lower(Text) -> string:lowercase(Text).
