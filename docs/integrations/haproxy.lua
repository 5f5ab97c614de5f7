-- Asks Doorward whose a request is, and leaves the answer in variables of the transaction. The clients' headers
-- are copied one by one, so that nothing else of theirs reaches Doorward.

-- Where haproxy.cfg passes questions on to Doorward.
local DOORWARD = "abns@doorward"

-- The first value of a header of the answer. They are numbered from 0.
local function first(headers, name)
    local values = headers and headers[name]
    return values and (values[0] or values[1]) or ""
end

core.register_action("doorward", { "http-req" }, function(txn, question)
    local given = txn.http:req_get_headers()
    local headers = {}
    for _, name in ipairs({ "authorization", "user-agent", "x-forwarded-for", "x-request-id" }) do
        if given[name] then
            headers[name] = {}
            for _, value in pairs(given[name]) do
                table.insert(headers[name], value)
            end
        end
    end
    local request = { url = "http://doorward" .. question, dst = DOORWARD, headers = headers, timeout = 10000 }
    local answer = core.httpclient():get(request) or {}
    txn:set_var("txn.doorward_status", tostring(answer.status))
    txn:set_var("txn.doorward_challenge", first(answer.headers, "www-authenticate"))
    txn:set_var("txn.doorward_user_id", first(answer.headers, "x-auth-user-id"))
    txn:set_var("txn.doorward_email", first(answer.headers, "x-auth-email"))
    txn:set_var("txn.doorward_nickname", first(answer.headers, "x-auth-nickname"))
    txn:set_var("txn.doorward_role", first(answer.headers, "x-auth-role"))
    txn:set_var("txn.doorward_session", first(answer.headers, "x-auth-session"))
end, 1)
