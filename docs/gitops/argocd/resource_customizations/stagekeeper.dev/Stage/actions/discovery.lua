-- What can be asked of a Stage in Argo CD. Approving is left out: it counts only by a person's own name.
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

local held = obj.status ~= nil and obj.status.hold ~= nil
return {
  promote = only_if(obj.spec.promotion ~= nil),
  rollback = only_if(obj.status ~= nil and obj.status.release ~= nil),
  abort = only_if(under_way[deploy.state] == true),
  retry = only_if(deploy.state == "Failed" or deploy.state == "RolledBack" or deploy.state == "Aborted"),
  hold = only_if(not held),
  resume = only_if(held),
}
