-- How Argo CD reads a Project, a Stage or an Environment: the rules of kstatus, and beside them what waits for people or for
-- the clock, which is not trouble: it counts as Suspended, and a sync does not wait for it.
local waits = {
  Suspended = true,
  Held = true,
  Vetoed = true,
  NotProven = true,
  Soaking = true,
  ApprovalNeeded = true,
  WindowClosed = true,
}

local function said(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return said("Progressing", "It is being deleted")
end
local status = obj.status
if status == nil or status.observedGeneration == nil or status.observedGeneration ~= obj.metadata.generation then
  return said("Progressing", "The controller has not seen this generation yet")
end

local ready
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    return said("Degraded", condition.message)
  end
  if condition.type == "Reconciling" and condition.status == "True" then
    local deploy = status.deploy
    if deploy ~= nil and deploy.state == "Pending" and waits[deploy.waitingReason] then
      return said("Suspended", condition.message)
    end
    return said("Progressing", condition.message)
  end
  if condition.type == "Ready" then
    ready = condition
  end
end
if ready == nil then
  return said("Progressing", "The controller has said nothing yet")
end
if ready.status ~= "True" then
  return said("Progressing", ready.message)
end
if obj.spec.suspend then
  return said("Suspended", "spec.suspend: no deploy begins; " .. ready.message)
end
return said("Healthy", ready.message)
