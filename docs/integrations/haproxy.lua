-- Asks Doorward whose a request is, and leaves the answer in variables of the transaction. The clients' headers
-- are copied one by one, so that nothing else of theirs reaches Doorward.

local DOORWARD = "http://127.0.0.1:8000/forward_auth"

core.register_action("doorward", { "http-req" }, function(txn)
    local given = txn.http:req_get_headers()
    local headers = {}
    for _, name in ipairs({ "authorization", "user-agent", "x-forwarded-for" }) do
        if given[name] then
            headers[name] = {}
            for _, value in pairs(given[name]) do
                table.insert(headers[name], value)
            end
        end
    end
    txn:set_var("txn.doorward_status", "none")
    local answer = core.httpclient():get({ url = DOORWARD, headers = headers, timeout = 5000 })
    if not answer or not answer.status then
        return
    end
    txn:set_var("txn.doorward_status", tostring(answer.status))
    if answer.status ~= 200 then
        return
    end
    for name, variable in pairs({
        ["x-auth-user-id"] = "user_id",
        ["x-auth-email"] = "email",
        ["x-auth-nickname"] = "nickname",
        ["x-auth-role"] = "role",
        ["x-auth-session"] = "session",
    }) do
        local values = answer.headers[name]
        txn:set_var("txn.doorward_" .. variable, values and (values[0] or values[1]) or "")
    end
end)
