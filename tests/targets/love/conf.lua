function love.conf(t)
	t.identity = nil
	t.window.title = "Lanterns"
	t.window.width = 320
	t.window.height = 240
	t.window.vsync = 0
	t.modules.audio = false
	t.modules.sound = false
	t.modules.joystick = false
end
