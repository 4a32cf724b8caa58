-- Draws lanterns and captions for 600 frames and ends. Some captions are made anew each frame and released in it, some
-- stay for a while: blocks that die in their frame and blocks that outlive it.
local FRAMES, LANTERNS, KEPT = 600, 24, 12
local frame, captions, checksum = 0, {}, 0

function love.load()
	love.math.setRandomSeed(7)
end

function love.update()
	frame = frame + 1
	if frame >= FRAMES then
		print(string.format("frames %d, captions %d, checksum %d", frame, #captions, checksum))
		love.event.quit(0)
	end
end

function love.draw()
	local font = love.graphics.getFont()
	for i = 1, LANTERNS do
		local x, y = love.math.random(300), love.math.random(220)
		checksum = (checksum * 31 + x + y) % 1000003
		love.graphics.rectangle("fill", x, y, 6, 6)
		love.graphics.print("lantern " .. i .. " of frame " .. frame, 4, i * 9)
	end
	local caption = love.graphics.newText(font, "frame " .. frame)
	love.graphics.draw(caption, 100, 100)
	if frame % 10 == 0 then
		captions[#captions + 1] = caption
		if #captions > KEPT then
			table.remove(captions, 1):release()
		end
	else
		caption:release()
	end
end
