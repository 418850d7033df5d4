-module(mongoose_domain_api).
%% The API.
-export([get_domain_host_type/1]).

get_domain_host_type(Domain) ->
    case ets:lookup(standin_domains, Domain) of
        [{_, HostType}] -> {ok, HostType};
        [] -> {error, not_found}
    end.
