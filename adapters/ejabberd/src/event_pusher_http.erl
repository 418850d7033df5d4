%%% A small HTTP client: one POST at a time over one connection, in its own process.
%%%
%%% Invariants:
%%%  - It reads at most 16 KiB of headers and 64 KiB of body. OTP's own client reads everything.
%%%  - It verifies the certificate before it sends anything to an https address, also for an IP address (RFC 9110).
%%%  - The caller gets one answer for each request: {http_answer, Ref, Result}. To cancel a request, end the process.
-module(event_pusher_http).

-export([start_link/0, post/3, parse_url/1, most_bytes/0]).
-export([init/1]).
-export_type([url/0, result/0, request/0]).

-type url() :: #{scheme := http | https, host := inet:hostname() | inet:ip_address(), port := inet:port_number(),
                 path := iodata(), authority := iodata()}.
%% `tls` returns the options for verifying the server.
-type request() :: #{url := url(), headers := iodata(), body := iodata(), timeout := pos_integer(),
                     tls := fun(() -> [ssl:tls_client_option()])}.
-type result() :: {ok, Status :: pos_integer(), Headers :: #{binary() => binary()}, Body :: binary()}
                | {error, {connect, term()} | timeout | term()}.

-define(CONNECT_MS, 5000).
-define(HEAD_BYTES, 16384).
-define(BODY_BYTES, 65536).
%% Idle connections are closed soon: reusing one that the server is just closing would look like a failure.
-define(IDLE_MS, 3000).

-record(conn, {transport :: gen_tcp | ssl, socket :: gen_tcp:socket() | ssl:sslsocket(), url :: url(),
               used :: integer()}).

-spec start_link() -> pid().
start_link() ->
    spawn_link(?MODULE, init, [self()]).

-spec post(pid(), reference(), request()) -> ok.
post(Client, Ref, Request) ->
    Client ! {post, Ref, Request},
    ok.

%% The most that is read of an answer's body.
-spec most_bytes() -> pos_integer().
most_bytes() ->
    ?BODY_BYTES.

-spec parse_url(unicode:chardata()) -> url() | error.
parse_url(Text) ->
    case uri_string:parse(unicode:characters_to_list(Text)) of
        #{scheme := Scheme, host := Host, path := Path} = Uri when Host =/= "" ->
            case string:lowercase(Scheme) of
                "http" -> url(http, Host, maps:get(port, Uri, 80), Path, Uri);
                "https" -> url(https, Host, maps:get(port, Uri, 443), Path, Uri);
                _ -> error
            end;
        _ -> error
    end.

url(Scheme, Host, Port, Path, Uri) ->
    Query = case Uri of
                #{query := Text} -> [$?, Text];
                _ -> []
            end,
    {Address, Shown} = case inet:parse_strict_address(Host) of
                           {ok, IP} when tuple_size(IP) =:= 8 -> {IP, [$[, Host, $]]};
                           {ok, IP} -> {IP, Host};
                           {error, _} -> {Host, Host}
                       end,
    #{scheme => Scheme, host => Address, port => Port, authority => [Shown, $:, integer_to_list(Port)],
      path => case Path of
                  "" -> [$/ | Query];
                  _ -> [Path | Query]
              end}.

%%%---------------------------------------------------------------------------------------------------- the process

-spec init(pid()) -> no_return().
init(Owner) ->
    loop(Owner, none).

loop(Owner, Conn) ->
    receive
        {post, Ref, #{timeout := Timeout} = Request} ->
            {Result, Conn1} = request(Request, Conn, now_ms() + Timeout),
            Owner ! {http_answer, Ref, Result},
            loop(Owner, Conn1)
    end.

request(#{url := Url} = Request, Conn, Deadline) ->
    case reusable(Url, Conn) of
        %% If the server closes it now without an answer, that is a failure like any other: it may have the events, and only
        %% the caller can note that before they are sent again.
        true -> exchange(Request, Conn, Deadline);
        false ->
            close(Conn),
            case connect(Request) of
                {ok, New} -> exchange(Request, New, Deadline);
                {error, Reason} -> {{error, {connect, Reason}}, none}
            end
    end.

reusable(Url, #conn{url = Url, used = Used} = Conn) ->
    now_ms() - Used < ?IDLE_MS andalso recv(Conn, 0) =:= {error, timeout};
reusable(_, _) ->
    false.

connect(#{url := #{scheme := http, host := Host, port := Port} = Url}) ->
    case by_family(Host, fun(Options) -> gen_tcp:connect(Host, Port, Options, ?CONNECT_MS) end) of
        {ok, Socket} -> {ok, #conn{transport = gen_tcp, socket = Socket, url = Url, used = now_ms()}};
        {error, Reason} -> {error, Reason}
    end;
connect(#{url := #{scheme := https, host := Host, port := Port} = Url, tls := Trust}) ->
    {ok, _} = application:ensure_all_started(ssl),
    Tls = [{verify, verify_peer}, {depth, 10} | name_check(Host) ++ Trust()],
    case by_family(Host, fun(Options) -> ssl:connect(Host, Port, Options ++ Tls, ?CONNECT_MS) end) of
        {ok, Socket} -> verified(Host, #conn{transport = ssl, socket = Socket, url = Url, used = now_ms()});
        {error, Reason} -> {error, Reason}
    end.

%% Tries IPv6 first if a name has addresses of both families.
by_family(Host, Connect) ->
    Options = [binary, {active, false}, {packet, raw}, {nodelay, true}, {send_timeout, 30000},
               {send_timeout_close, true}],
    case Host of
        {_, _, _, _} -> Connect([inet | Options]);
        {_, _, _, _, _, _, _, _} -> Connect([inet6 | Options]);
        _ ->
            case Connect([inet6 | Options]) of
                {ok, Socket} -> {ok, Socket};
                {error, {tls_alert, _} = Alert} -> {error, Alert};
                {error, _} -> Connect([inet | Options])
            end
    end.

%% OTP compares an IP address only with names; `verified` checks it properly.
name_check(Host) when is_tuple(Host) ->
    [{server_name_indication, disable}];
name_check(Host) ->
    [{server_name_indication, Host},
     {customize_hostname_check, [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}]}].

verified(Host, #conn{socket = Socket} = Conn) when is_tuple(Host) ->
    case ssl:peercert(Socket) of
        {ok, Cert} ->
            case public_key:pkix_verify_hostname(Cert, [{ip, Host}]) of
                true -> {ok, Conn};
                false ->
                    close(Conn),
                    {error, {hostname_check_failed, "the certificate is not for this IP address"}}
            end;
        {error, Reason} ->
            close(Conn),
            {error, Reason}
    end;
verified(_, Conn) ->
    {ok, Conn}.

exchange(#{url := #{path := Path, authority := Authority}, headers := Headers, body := Body}, Conn, Deadline) ->
    Head = [<<"POST ">>, Path, <<" HTTP/1.1\r\nHost: ">>, Authority, <<"\r\n">>, Headers,
            <<"Content-Type: application/json\r\nContent-Length: ">>, integer_to_binary(iolist_size(Body)),
            <<"\r\n\r\n">>],
    %% The server may have answered before everything was sent.
    _ = send(Conn, [Head, Body]),
    case head(Conn, <<>>, Deadline) of
        {ok, Status, Answered, Rest} ->
            {Text, Whole} = body(Status, Answered, Conn, Rest, Deadline),
            case Whole andalso maps:get(<<"connection">>, Answered, <<>>) =/= <<"close">> of
                true -> {{ok, Status, Answered, Text}, Conn#conn{used = now_ms()}};
                false ->
                    close(Conn),
                    {{ok, Status, Answered, Text}, none}
            end;
        {error, Reason} ->
            close(Conn),
            {{error, Reason}, none}
    end.

%%%----------------------------------------------------------------------------------------------------- the answer

%% Reads status and headers, and returns the rest that was read. Skips interim answers (1xx).
head(Conn, Read, Deadline) ->
    case binary:match(Read, <<"\r\n\r\n">>) of
        {At, 4} ->
            <<Head:At/binary, _:4/binary, Rest/binary>> = Read,
            case parse_head(Head) of
                {ok, Status, _} when Status >= 100, Status < 200, Status =/= 101 -> head(Conn, Rest, Deadline);
                {ok, Status, Headers} -> {ok, Status, Headers, Rest};
                error -> {error, {not_http, clip(Read)}}
            end;
        nomatch when byte_size(Read) > ?HEAD_BYTES -> {error, {not_http, clip(Read)}};
        nomatch ->
            case recv(Conn, Deadline - now_ms()) of
                {ok, More} -> head(Conn, <<Read/binary, More/binary>>, Deadline);
                {error, timeout} -> {error, timeout};
                {error, Reason} when Read =:= <<>> -> {error, {no_answer, Reason}};
                {error, Reason} -> {error, Reason}
            end
    end.

clip(Text) ->
    binary:part(Text, 0, min(100, byte_size(Text))).

parse_head(Head) ->
    [First | Lines] = binary:split(Head, <<"\r\n">>, [global]),
    case re:run(First, <<"^HTTP/1\\.([01]) ([1-9][0-9][0-9])(?: |$)">>, [{capture, all_but_first, binary}]) of
        {match, [Minor, Status]} ->
            Headers = maps:from_list([header(Line) || Line <- Lines]),
            %% HTTP/1.0 closes after each answer.
            Closing = [{<<"connection">>, <<"close">>} || Minor =:= <<"0">>],
            {ok, binary_to_integer(Status), maps:merge(Headers, maps:from_list(Closing))};
        nomatch -> error
    end.

header(Line) ->
    case binary:split(Line, <<":">>) of
        [Name, Value] -> {lowercase(Name), trim(lowercase(Value))};
        [_] -> {<<>>, <<>>}
    end.

%% Lowercases ASCII only; keeps bytes that are not UTF-8.
lowercase(Text) ->
    << <<(case C of
              _ when C >= $A, C =< $Z -> C + 32;
              _ -> C
          end)>> || <<C>> <= Text >>.

trim(Text) ->
    re:replace(Text, <<"^[ \t]+|[ \t]+$">>, <<>>, [global, {return, binary}]).

%% Returns the body as far as it was read, and whether it is complete.
body(Status, _, _, _, _) when Status =:= 204; Status =:= 304 ->
    {<<>>, true};
body(_, #{<<"transfer-encoding">> := Coding}, Conn, Rest, Deadline) ->
    case Coding of
        <<"chunked">> -> chunks(Conn, Rest, <<>>, Deadline);
        _ -> {<<>>, false}
    end;
body(_, #{<<"content-length">> := Length}, Conn, Rest, Deadline) ->
    try binary_to_integer(Length) of
        N when N >= 0 ->
            {Text, _} = at_least(min(N, ?BODY_BYTES), Conn, Rest, Deadline),
            {binary:part(Text, 0, min(byte_size(Text), min(N, ?BODY_BYTES))), byte_size(Text) =:= N};
        _ -> {<<>>, false}
    catch
        error:badarg -> {<<>>, false}
    end;
body(_, _, Conn, Rest, Deadline) ->
    {Text, _} = at_least(?BODY_BYTES, Conn, Rest, Deadline),
    {binary:part(Text, 0, min(byte_size(Text), ?BODY_BYTES)), false}.

%% Reads until at least N bytes are there or the connection ends.
at_least(N, _, Read, _) when byte_size(Read) >= N ->
    {Read, true};
at_least(N, Conn, Read, Deadline) ->
    case recv(Conn, Deadline - now_ms()) of
        {ok, More} -> at_least(N, Conn, <<Read/binary, More/binary>>, Deadline);
        {error, _} -> {Read, false}
    end.

chunks(_, _, Text, _) when byte_size(Text) > ?BODY_BYTES ->
    {binary:part(Text, 0, ?BODY_BYTES), false};
chunks(Conn, Read, Text, Deadline) ->
    case binary:split(Read, <<"\r\n">>) of
        [Line, Rest] ->
            case re:run(Line, <<"^([0-9a-fA-F]{1,8})[ \t]*(?:;|$)">>, [{capture, [1], binary}]) of
                {match, [Hex]} -> chunk(binary_to_integer(Hex, 16), Conn, Rest, Text, Deadline);
                nomatch -> {Text, false}
            end;
        [_] when byte_size(Read) > ?HEAD_BYTES -> {Text, false};
        [_] ->
            case recv(Conn, Deadline - now_ms()) of
                {ok, More} -> chunks(Conn, <<Read/binary, More/binary>>, Text, Deadline);
                {error, _} -> {Text, false}
            end
    end.

%% Trailers, which are ignored, or an empty line follow the last chunk.
chunk(0, Conn, Rest, Text, Deadline) ->
    case at_least(2, Conn, Rest, Deadline) of
        {<<"\r\n">>, true} -> {Text, true};
        _ -> {Text, false}
    end;
chunk(Size, Conn, Rest, Text, Deadline) ->
    Wanted = min(Size, ?BODY_BYTES) + 2,
    case at_least(Wanted, Conn, Rest, Deadline) of
        {<<Chunk:Size/binary, "\r\n", More/binary>>, true} ->
            chunks(Conn, More, <<Text/binary, Chunk/binary>>, Deadline);
        {Read, _} ->
            Part = <<Text/binary, Read/binary>>,
            {binary:part(Part, 0, min(byte_size(Part), ?BODY_BYTES)), false}
    end.

%%%---------------------------------------------------------------------------------------------------- the socket

send(#conn{transport = Transport, socket = Socket}, Data) ->
    Transport:send(Socket, Data).

recv(#conn{transport = Transport, socket = Socket}, Timeout) ->
    Transport:recv(Socket, 0, max(0, Timeout)).

close(none) ->
    ok;
close(#conn{transport = Transport, socket = Socket}) ->
    _ = Transport:close(Socket),
    ok.

now_ms() ->
    erlang:monotonic_time(millisecond).
