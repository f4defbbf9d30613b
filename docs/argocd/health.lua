-- Health of the four kinds of headgate.dev for Argo CD, from `obj`. Needs no library but ipairs.
local generation = obj.metadata.generation
local status = obj.status

if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "The operator has not reported yet" }
end
if status.observedGeneration == nil or status.observedGeneration < generation then
  return { status = "Progressing", message = "The operator has not seen the newest version yet" }
end

-- A condition about an older version says nothing about this one.
local now = {}
for _, condition in ipairs(status.conditions) do
  if condition.observedGeneration == nil or condition.observedGeneration >= generation then
    now[condition.type] = condition
  end
end

local function health(word, condition)
  return { status = word, message = condition.reason .. ": " .. (condition.message or "") }
end

-- The spec is refused; what was accepted last may well be serving.
if now.Accepted ~= nil and now.Accepted.status == "False" then
  return health("Degraded", now.Accepted)
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return { status = "Suspended", message = "spec.suspend is true" }
end
if now.Ready == nil then
  return { status = "Progressing", message = "The operator has not said whether it is ready" }
end
-- False means wrong. What merely starts, or could not be checked, is Unknown.
if now.Ready.status == "False" then
  return health("Degraded", now.Ready)
end
if now.Progressing ~= nil and now.Progressing.status == "True" then
  return health("Progressing", now.Progressing)
end
if now.Ready.status == "True" then
  return health("Healthy", now.Ready)
end
return health("Progressing", now.Ready)
