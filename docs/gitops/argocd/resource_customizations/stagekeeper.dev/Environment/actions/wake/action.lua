-- Asks for `wake` as `kubectl annotate` would: the operator acts on it once, and says so in status.lastRequest.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["stagekeeper.dev/request"] = "wake"
obj.metadata.annotations["stagekeeper.dev/request-nonce"] = "argocd wake " .. os.date("!%Y-%m-%dT%H:%M:%SZ")
obj.metadata.annotations["stagekeeper.dev/request-reason"] = "asked for in Argo CD"
obj.metadata.annotations["stagekeeper.dev/request-arguments"] = nil
return obj
