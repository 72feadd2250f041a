-- What can be asked of an Environment in Argo CD.
local deploy = obj.status ~= nil and obj.status.deploy or {}
local under_way = {
  Pending = true,
  Pulling = true,
  Starting = true,
  ConfiguringProxy = true,
  HealthChecking = true,
}
local function only_if(condition)
  return { disabled = not condition }
end

local awake = obj.status ~= nil and obj.status.awake == true
return {
  wake = only_if(not awake),
  sleep = only_if(awake),
  pin = only_if(not obj.spec.pinned),
  unpin = only_if(not obj.spec.pinned),
  abort = only_if(under_way[deploy.state] == true),
  retry = only_if(deploy.state == "Failed" or deploy.state == "RolledBack" or deploy.state == "Aborted"),
}
